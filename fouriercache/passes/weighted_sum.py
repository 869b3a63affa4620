"""A prediction as sums: of slots that hold values, and of slots that hold coefficients, transformed back once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx

from fouriercache import ops
from fouriercache.passes.edit import insert_before, replace_uses
from fouriercache.passes.scales import Scales
from fouriercache.program import tensor_of, value_of

aten = torch.ops.aten
_Inverse = tuple[tuple[fx.Node, ...], int]
"""The matrices of an inverse transform, and the index of the grid's first token."""


@dataclass(frozen=True)
class WeightedSum:
    """`sum_k row_k slot_k`, by what the slots hold; k counts from the newest.

    Attributes:
        row: the coefficients, f32[K], or f32[M, K] for slots of M coefficients.
        dense: k -> slot, of those that hold values.
        spectral: for each inverse transform, k -> slot of those that hold its coefficients. The transform is linear, so
            it comes after the sum.
    """

    row: fx.Node
    dense: Mapping[int, fx.Node]
    spectral: Mapping[_Inverse, Mapping[int, fx.Node]]

    @classmethod
    def of(cls, predicted: fx.Node) -> WeightedSum:
        """Read `predict(cache_lookup(slots), row)`, and the inverse transforms in front of or behind it."""
        lookup: Any = predicted.args[0]
        row: Any = predicted.args[1]
        slots: dict[int, fx.Node] = dict(enumerate(lookup.args[0]))
        behind = prediction_of(predicted)
        if behind is not predicted:
            return cls(row, {}, {_inverse(behind): slots})
        # Rows of more than one band weight coefficients, not the values that these are.
        expanded = {k: slot for k, slot in slots.items() if slot.target is ops.fft_expand and _ndim(row) == 1}
        spectral: dict[_Inverse, dict[int, fx.Node]] = {}
        for k, slot in expanded.items():
            spectral.setdefault(_inverse(slot), {})[k] = slot.all_input_nodes[0]
        return cls(row, {k: slot for k, slot in slots.items() if k not in expanded}, spectral)

    def insert_terms(self, anchor: fx.Node, scales: Scales) -> list[fx.Node]:
        """Sum and transform back the slots of coefficients, in float32 or wider: a term for each inverse transform."""
        return [
            insert_before(anchor, ops.fft_expand, self._sum(anchor, slots, scales), list(matrices), start)
            for (matrices, start), slots in self.spectral.items()
        ]

    def insert_whole(self, anchor: fx.Node, scales: Scales) -> fx.Node:
        """Write the whole sum in front of `anchor`, in float32 or wider."""
        terms = self.insert_terms(anchor, scales)
        if self.dense:
            terms = [self._sum(anchor, self.dense, scales), *terms]
        total, *others = terms
        for term in others:
            total = insert_before(anchor, aten.add.Tensor, total, term)
        return total

    def _sum(self, anchor: fx.Node, slots: Mapping[int, fx.Node], scales: Scales) -> fx.Node:
        (first, slot), *others = slots.items()
        total = insert_before(anchor, aten.mul.Tensor, widened(anchor, slot), scales.plain(self.row, first))
        for k, other in others:
            factor = scales.plain(self.row, k)
            total = insert_before(anchor, aten.addcmul.default, total, widened(anchor, other), factor)
        return total


def prediction_of(predicted: fx.Node) -> fx.Node:
    """The value that a `predict` call stands for: its result, or what one inverse transform makes of coefficients."""
    users = list(predicted.users)
    return users[0] if len(users) == 1 and users[0].target is ops.fft_expand else predicted


def sum_in_place(predicted: fx.Node, scales: Scales) -> None:
    """Write a prediction that is not added to a stream as `c_0 slot_0 + c_1 slot_1 + ...`."""
    value = prediction_of(predicted)
    total = WeightedSum.of(predicted).insert_whole(value, scales)
    want = value_of(value).dtype
    if value_of(total).dtype != want:
        total = insert_before(value, aten.to.dtype, total, want)
    replace_uses(value, total)


def widened(anchor: fx.Node, node: fx.Node) -> fx.Node:
    """Return `node` in float32 if it is in half precision, cast in front of `anchor`."""
    if value_of(node).dtype in (torch.float16, torch.bfloat16):
        return insert_before(anchor, aten.to.dtype, node, torch.float32)
    return node


def _inverse(expand: fx.Node) -> _Inverse:
    matrices: Any = expand.args[1]
    start: Any = expand.args[2]
    return tuple(matrices), start


def _ndim(row: fx.Node) -> int:
    tensor = tensor_of(row)
    return 0 if tensor is None else tensor.ndim
