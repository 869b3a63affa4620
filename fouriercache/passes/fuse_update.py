"""Turn lookup, predict, gate and residual add of a site into one expression on the token stream."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import fx

from fouriercache import ops
from fouriercache.errors import PassError
from fouriercache.passes.base import Pass
from fouriercache.passes.edit import insert_after, insert_before, replace_uses
from fouriercache.passes.hoist_conditioning import MOVING, hoistable
from fouriercache.passes.match import CASTS
from fouriercache.passes.remove_dead import RemoveDead
from fouriercache.program import NoMatch, Program, tensor_of

aten = torch.ops.aten


@dataclass(frozen=True)
class _Update:
    """`add = spine + branch`, where `branch = gate * sum_k c_k slot_k`, the gate perhaps absent."""

    add: fx.Node
    branch: fx.Node
    gate: fx.Node | None
    slots: tuple[fx.Node, ...]


@dataclass(frozen=True)
class FuseUpdate(Pass):
    """Rewrite `spine + gate * predict(cache_lookup(slots), coefficients)` as one `addcmul` for each slot.

    The history is read where it lies, once: no stacking, no temporary for the prediction, no gate multiply. Gates of
    one shape are stacked and multiplied by the coefficients in one call for all sites; the stack depends on the
    conditioning alone and is hoisted with it. Half precision streams are summed in float32.

    Before::

        main(%0: f32[2,8] x, %1: f32[2,8] slot_0_0 (slot), %2: f32[1] coefficients)
          %3: f32[1,2,8] = fouriercache.cache_lookup([%1])
          %4: f32[2,8] = fouriercache.predict(%3, %2)
          %5: f32[2,8] = add.Tensor(%0, %4)
          return [%5]

    After::

        main(%0: f32[2,8] x, %1: f32[2,8] slot_0_0 (slot), %2: f32[1] coefficients)
          %3: f32[] = select.int(%2, 0, 0)
          %4: f32[2,8] = addcmul.default(%0, %1, %3)
          return [%4]

    Requires: nothing.
    Keeps: 1. a prediction that something else reads as well, or that no add reads: it becomes a weighted sum.
    Error: rounding; the sum is taken in another order.
    """

    def rewrite(self, program: Program) -> int:
        predictions = list(program.graph.find_nodes(op="call_function", target=ops.predict))
        if not predictions:
            return 0
        found = [self._match(program, node) for node in predictions]
        updates = [update for update in found if isinstance(update, _Update)]
        scales = _Scales(program, updates)
        for update in updates:
            _rewrite(update, scales)
        for node, update in zip(predictions, found, strict=True):
            if isinstance(update, NoMatch):
                self.refuse(program, update)
                _weighted_sum(node, scales)
        RemoveDead().rewrite(program)
        return len(predictions)

    def ensures(self, program: Program) -> None:
        if program.graph.find_nodes(op="call_function", target=ops.predict):
            raise PassError("FuseUpdate left a predict node")

    def _match(self, program: Program, predicted: fx.Node) -> _Update | NoMatch:
        lookup = predicted.args[0]
        assert isinstance(lookup, fx.Node)
        slots = tuple(lookup.args[0])  # type: ignore[arg-type]
        node, gate = predicted, None
        while len(node.users) == 1:
            (user,) = node.users
            if user.target in CASTS:
                node = user
            elif user.target is aten.mul.Tensor and gate is None:
                (gate,) = (a for a in user.args if a is not node) if user.args[0] is not user.args[1] else (None,)
                if not isinstance(gate, fx.Node):
                    return NoMatch("the prediction is scaled by a number", user.name)
                node = user
            elif user.target is aten.add.Tensor and "alpha" not in user.kwargs:
                (spine,) = (a for a in user.args if a is not node) if user.args[0] is not user.args[1] else (None,)
                if not isinstance(spine, fx.Node) or tensor_of(spine) is None:
                    return NoMatch("the prediction is not added to a token stream", user.name)
                return _Update(user, node, gate, slots)
            else:
                return NoMatch(f"a {user.target} reads the prediction", user.name)
        return NoMatch(f"{len(node.users)} nodes read the prediction", node.name)


class _Scales:
    """The factors of the slots: coefficients, or gates times coefficients, built once for all sites."""

    def __init__(self, program: Program, updates: Sequence[_Update]) -> None:
        (self.coefficients,) = program.inputs_of("coefficients")
        self.history = program.history
        still = set(hoistable(program, MOVING))
        moving = [node for node in program.calls() if node not in still]
        self._border = moving[0]
        self._last_input = program.placeholders[-1]
        self._plain: list[fx.Node] = []
        self._gated: dict[fx.Node, list[fx.Node]] = {}
        groups: dict[tuple[object, ...], list[fx.Node]] = {}
        for update in updates:
            gate = update.gate
            if gate is not None and (gate in still or gate.op == "placeholder"):
                tensor = tensor_of(gate)
                assert tensor is not None
                groups.setdefault((tensor.dtype, *map(str, tensor.shape)), []).append(gate)
        for gates in groups.values():
            self._stack(list(dict.fromkeys(gates)))

    def plain(self, slot: int) -> fx.Node:
        """The coefficient of one slot: float32, no dimensions."""
        if not self._plain:
            self._plain = [
                insert_before(self._border, aten.select.int, self.coefficients, 0, k) for k in range(self.history)
            ]
        return self._plain[slot]

    def gated(self, gate: fx.Node, slot: int) -> fx.Node:
        """Gate times coefficient of one slot, in the gate's shape."""
        if gate not in self._gated:
            # A gate that depends on the latents cannot be stacked ahead of the blocks.
            scaled: list[fx.Node] = []
            anchor = gate
            for k in range(self.history):
                anchor = insert_after(anchor, aten.mul.Tensor, _wide(gate), self.plain(k), like=gate)
                scaled.append(anchor)
            self._gated[gate] = scaled
        return self._gated[gate][slot]

    def _stack(self, gates: list[fx.Node]) -> None:
        tensor = tensor_of(gates[0])
        assert tensor is not None
        stacked = insert_before(self._border, aten.stack.default, gates, 1)
        if tensor.dtype in (torch.float16, torch.bfloat16):
            stacked = insert_before(self._border, aten.to.dtype, stacked, torch.float32)
        shape = [self.history] + [1] * (tensor.ndim + 1)
        column = insert_before(self._border, aten.view.default, self.coefficients, shape)
        scaled = insert_before(self._border, aten.mul.Tensor, column, stacked)
        for k in range(self.history):
            row = insert_before(self._border, aten.select.int, scaled, 0, k)
            parts = insert_before(self._border, aten.unbind.int, row, 1)
            for position, gate in enumerate(gates):
                part = insert_before(self._border, operator.getitem, parts, position)
                self._gated.setdefault(gate, []).append(part)


def _wide(gate: fx.Node) -> fx.Node:
    tensor = tensor_of(gate)
    if tensor is not None and tensor.dtype in (torch.float16, torch.bfloat16):
        return insert_after(gate, aten.to.dtype, gate, torch.float32)
    return gate


def _rewrite(update: _Update, scales: _Scales) -> None:
    add = update.add
    # Read here, not when matched: the site below may have been rewritten in between.
    (total,) = (argument for argument in add.args if argument is not update.branch)
    assert isinstance(total, fx.Node)
    want, stream = tensor_of(add), tensor_of(total)
    assert want is not None and stream is not None
    narrow = stream.dtype in (torch.float16, torch.bfloat16)
    if narrow:
        total = insert_before(add, aten.to.dtype, total, torch.float32)
    for k, slot in enumerate(update.slots):
        if update.gate is None:
            total = insert_before(add, aten.addcmul.default, total, slot, scales.plain(k))
        else:
            total = insert_before(add, aten.addcmul.default, total, scales.gated(update.gate, k), slot)
    have = tensor_of(total)
    if have is not None and have.dtype != want.dtype:
        total = insert_before(add, aten.to.dtype, total, want.dtype)
    replace_uses(add, total)


def _weighted_sum(predicted: fx.Node, scales: _Scales) -> None:
    """Write a prediction that is not added to a stream as `c_0 slot_0 + c_1 slot_1 + ...`."""
    lookup, want = predicted.args[0], tensor_of(predicted)
    assert isinstance(lookup, fx.Node) and want is not None
    slots: list[fx.Node] = list(lookup.args[0])  # type: ignore[arg-type]
    total: fx.Node | None = None
    for k, slot in enumerate(slots):
        wide = slot
        if want.dtype in (torch.float16, torch.bfloat16):
            wide = insert_before(predicted, aten.to.dtype, slot, torch.float32)
        if total is None:
            total = insert_before(predicted, aten.mul.Tensor, wide, scales.plain(k))
        else:
            total = insert_before(predicted, aten.addcmul.default, total, wide, scales.plain(k))
    assert total is not None
    have = tensor_of(total)
    if have is not None and have.dtype != want.dtype:
        total = insert_before(predicted, aten.to.dtype, total, want.dtype)
    replace_uses(predicted, total)
