"""The factors that a history is weighted with, built once for all sites."""

from __future__ import annotations

import operator
from collections.abc import Sequence

import torch
from torch import fx

from fouriercache.passes.edit import insert_after, insert_before
from fouriercache.passes.hoist_conditioning import MOVING, hoistable
from fouriercache.passes.match import descendants
from fouriercache.program import Program, tensor_of

aten = torch.ops.aten
_Key = tuple[fx.Node, fx.Node]


class Scales:
    """The factors of the slots: coefficients, or gates times coefficients, built once for all sites.

    Args:
        gated: (gate, row) of every update that multiplies a gate into its row of coefficients, f32[K].
    """

    def __init__(self, program: Program, gated: Sequence[_Key]) -> None:
        self.history = program.history
        still = set(hoistable(program, MOVING))
        # What is built of coefficients alone stands ahead of all that moves with the latents or the cache.
        rows = descendants(program.inputs_of("coefficients")) - descendants(
            program.inputs_of(*(role for role in MOVING if role != "coefficients"))
        )
        moving = [node for node in program.calls() if node not in still and node not in rows]
        self._border = moving[0]
        self._plain: dict[fx.Node, list[fx.Node]] = {}
        self._gated: dict[_Key, list[fx.Node]] = {}
        groups: dict[tuple[object, ...], list[_Key]] = {}
        for gate, row in gated:
            if gate in still or gate.op == "placeholder":
                tensor = tensor_of(gate)
                assert tensor is not None
                groups.setdefault((tensor.dtype, *map(str, tensor.shape)), []).append((gate, row))
        for alike in groups.values():
            self._stack(list(dict.fromkeys(alike)))

    def plain(self, row: fx.Node, slot: int) -> fx.Node:
        """The factor of one slot: float32 without dimensions; [M, 1] of a row [M, K] for each of M entries."""
        if row not in self._plain:
            self._plain[row] = [self._column(row, k) for k in range(self.history)]
        return self._plain[row][slot]

    def gated(self, gate: fx.Node, row: fx.Node, slot: int) -> fx.Node:
        """Gate times coefficient of one slot, in the gate's shape. The row is f32[K]."""
        if (gate, row) not in self._gated:
            # A gate that depends on the latents cannot be stacked ahead of the blocks.
            scaled: list[fx.Node] = []
            wide = anchor = _wide(gate)
            for k in range(self.history):
                anchor = insert_after(anchor, aten.mul.Tensor, wide, self.plain(row, k), like=gate)
                scaled.append(anchor)
            self._gated[gate, row] = scaled
        return self._gated[gate, row][slot]

    def _column(self, row: fx.Node, slot: int) -> fx.Node:
        tensor = tensor_of(row)
        assert tensor is not None
        if tensor.ndim == 1:
            return insert_before(self._border, aten.select.int, row, 0, slot)
        return insert_before(self._border, aten.slice.Tensor, row, 1, slot, slot + 1)

    def _stack(self, pairs: list[_Key]) -> None:
        gates, rows = [gate for gate, _ in pairs], [row for _, row in pairs]
        tensor = tensor_of(gates[0])
        assert tensor is not None
        stacked = insert_before(self._border, aten.stack.default, gates, 1)
        if tensor.dtype in (torch.float16, torch.bfloat16):
            stacked = insert_before(self._border, aten.to.dtype, stacked, torch.float32)
        alone = len(set(rows)) == 1
        column = rows[0] if alone else insert_before(self._border, aten.stack.default, rows, 1)
        shape = [self.history, 1, 1 if alone else len(pairs)] + [1] * (tensor.ndim - 1)
        column = insert_before(self._border, aten.view.default, column, shape)
        scaled = insert_before(self._border, aten.mul.Tensor, column, stacked)
        for k in range(self.history):
            part = insert_before(self._border, aten.select.int, scaled, 0, k)
            parts = insert_before(self._border, aten.unbind.int, part, 1)
            for position, pair in enumerate(pairs):
                piece = insert_before(self._border, operator.getitem, parts, position)
                self._gated.setdefault(pair, []).append(piece)


def _wide(gate: fx.Node) -> fx.Node:
    tensor = tensor_of(gate)
    if tensor is not None and tensor.dtype in (torch.float16, torch.bfloat16):
        return insert_after(gate, aten.to.dtype, gate, torch.float32)
    return gate
