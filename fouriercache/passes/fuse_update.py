"""Turn lookup, predict, gate and residual add of a site into one expression on the token stream."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import fx

from fouriercache import ops
from fouriercache.errors import PassError
from fouriercache.passes.base import Pass
from fouriercache.passes.edit import insert_before, insert_layout, replace_uses
from fouriercache.passes.hoist_conditioning import require_order
from fouriercache.passes.match import CASTS
from fouriercache.passes.remove_dead import RemoveDead
from fouriercache.passes.scales import Scales
from fouriercache.program import NoMatch, Program, tensor_of, value_of

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

    Requires: `HoistConditioning`.
    Keeps: 1. a prediction that something else reads as well, or that no add reads: it becomes a weighted sum.
    Error: rounding; the sum is taken in another order.
    """

    def requires(self, program: Program) -> None:
        if program.graph.find_nodes(op="call_function", target=ops.predict):
            require_order(program, "FuseUpdate")

    def rewrite(self, program: Program) -> int:
        predictions = list(program.graph.find_nodes(op="call_function", target=ops.predict))
        if not predictions:
            return 0
        found = [self._match(node) for node in predictions]
        updates = [match for match in found if isinstance(match, _Update)]
        scales = Scales(program, [u.gate for u in updates if u.gate is not None])
        for update in updates:
            _rewrite(update, scales)
        for node, match in zip(predictions, found, strict=True):
            if isinstance(match, NoMatch):
                self.refuse(program, match)
                _weighted_sum(node, scales)
        RemoveDead().rewrite(program)
        return len(predictions)

    def ensures(self, program: Program) -> None:
        if program.graph.find_nodes(op="call_function", target=ops.predict):
            raise PassError("FuseUpdate left a predict node")

    def _match(self, predicted: fx.Node) -> _Update | NoMatch:
        lookup = predicted.args[0]
        assert isinstance(lookup, fx.Node)
        slots = tuple(lookup.args[0])  # type: ignore[arg-type]
        node: fx.Node = predicted
        gate: fx.Node | None = None
        while len(node.users) == 1:
            (user,) = node.users
            if user.target in CASTS:
                node = user
            elif user.target is aten.mul.Tensor and gate is None:
                gate = _other(user, node)
                if gate is None:
                    return NoMatch("the prediction is scaled by a number or by itself", user.name)
                node = user
            elif user.target is aten.add.Tensor and "alpha" not in user.kwargs:
                if tensor_of(_other(user, node)) is None:
                    return NoMatch("the prediction is not added to a token stream", user.name)
                return _Update(user, node, gate, slots)
            else:
                return NoMatch(f"a {user.target} reads the prediction", user.name)
        return NoMatch(f"{len(node.users)} nodes read the prediction", node.name)


def _other(call: fx.Node, node: fx.Node) -> fx.Node | None:
    """The other operand of a call with two operands, if it is a node and not `node` again."""
    others = [argument for argument in call.args if argument is not node]
    return others[0] if len(others) == 1 and isinstance(others[0], fx.Node) else None


def _rewrite(update: _Update, scales: Scales) -> None:
    add = update.add
    # Read here, not when matched: the site below may have been rewritten in between.
    (total,) = (argument for argument in add.args if argument is not update.branch)
    assert isinstance(total, fx.Node)
    if value_of(total).dtype in (torch.float16, torch.bfloat16):
        total = insert_before(add, aten.to.dtype, total, torch.float32)
    # An addcmul takes the layout of its first operand: a stream that is transposed (out of a patch embedding) would be
    # updated against the layout of every slot, each time for several times the cost of one copy.
    total = insert_layout(add, total, update.slots[0])
    for k, slot in enumerate(update.slots):
        if update.gate is None:
            total = insert_before(add, aten.addcmul.default, total, slot, scales.plain(k))
        else:
            total = insert_before(add, aten.addcmul.default, total, scales.gated(update.gate, k), slot)
    want = value_of(add).dtype
    if value_of(total).dtype != want:
        total = insert_before(add, aten.to.dtype, total, want)
    replace_uses(add, total)


def _weighted_sum(predicted: fx.Node, scales: Scales) -> None:
    """Write a prediction that is not added to a stream as `c_0 slot_0 + c_1 slot_1 + ...`."""
    lookup: Any = predicted.args[0]
    want = value_of(predicted).dtype
    slots = list(lookup.args[0])
    if want in (torch.float16, torch.bfloat16):
        slots = [insert_before(predicted, aten.to.dtype, slot, torch.float32) for slot in slots]
    total = insert_before(predicted, aten.mul.Tensor, slots[0], scales.plain(0))
    for k, slot in enumerate(slots[1:], start=1):
        total = insert_before(predicted, aten.addcmul.default, total, slot, scales.plain(k))
    if value_of(total).dtype != want:
        total = insert_before(predicted, aten.to.dtype, total, want)
    replace_uses(predicted, total)
