"""Turn lookup, predict, gate and residual add of a site into one expression on the token stream."""

from __future__ import annotations

from dataclasses import dataclass

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
from fouriercache.passes.weighted_sum import WeightedSum, prediction_of, sum_in_place, widened
from fouriercache.program import NoMatch, Program, tensor_of, value_of

aten = torch.ops.aten


@dataclass(frozen=True)
class _Update:
    """`add = spine + branch`, where `branch = gate * prediction`, the gate perhaps absent."""

    add: fx.Node
    branch: fx.Node
    gate: fx.Node | None
    sum: WeightedSum


@dataclass(frozen=True)
class FuseUpdate(Pass):
    """Rewrite `spine + gate * predict(cache_lookup(slots), coefficients)` as one `addcmul` for each slot.

    The history is read where it lies, once: no stacking, no temporary for the prediction, no gate multiply. Gates of
    one shape are stacked and multiplied by the coefficients in one call for all sites; the stack depends on the
    conditioning alone and is hoisted with it. Half precision streams are summed in float32. Slots of coefficients are
    summed as coefficients, and transformed back once.

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
        scales = Scales(program, [(u.gate, u.sum.row) for u in updates if u.gate is not None and u.sum.dense])
        for update in updates:
            _rewrite(update, scales)
        for node, match in zip(predictions, found, strict=True):
            if isinstance(match, NoMatch):
                self.refuse(program, match)
                sum_in_place(node, scales)
        RemoveDead().rewrite(program)
        return len(predictions)

    def ensures(self, program: Program) -> None:
        if program.graph.find_nodes(op="call_function", target=ops.predict):
            raise PassError("FuseUpdate left a predict node")

    def _match(self, predicted: fx.Node) -> _Update | NoMatch:
        node = prediction_of(predicted)
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
                return _Update(user, node, gate, WeightedSum.of(predicted))
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
        total = _in_float32(add, total)
    terms = update.sum.insert_terms(add, scales)
    # An addcmul takes the layout of its first operand: a stream that is transposed (out of a patch embedding) would be
    # updated against the layout of every slot, each time for several times the cost of one copy.
    total = insert_layout(add, total, next(iter(update.sum.dense.values()), terms[0] if terms else total))
    for k, slot in update.sum.dense.items():
        if update.gate is None:
            total = insert_before(add, aten.addcmul.default, total, slot, scales.plain(update.sum.row, k))
        else:
            total = insert_before(add, aten.addcmul.default, total, scales.gated(update.gate, update.sum.row, k), slot)
    for term in terms:
        if update.gate is None:
            total = insert_before(add, aten.add.Tensor, total, term)
        else:
            total = insert_before(add, aten.addcmul.default, total, widened(add, update.gate), term)
    want = value_of(add).dtype
    if value_of(total).dtype != want:
        total = insert_before(add, aten.to.dtype, total, want)
    replace_uses(add, total)


def _in_float32(add: fx.Node, total: fx.Node) -> fx.Node:
    """The stream in float32, before it was rounded to what nothing but this update reads."""
    source = total.args[0] if total.target is aten.to.dtype and len(total.users) == 1 else None
    if isinstance(source, fx.Node) and value_of(source).dtype is torch.float32:
        return source
    return insert_before(add, aten.to.dtype, total, torch.float32)
