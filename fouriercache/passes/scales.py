"""The factors that a history is weighted with, built once for all sites."""

from __future__ import annotations

import operator
from collections.abc import Sequence

import torch
from torch import fx

from fouriercache.passes.edit import insert_after, insert_before
from fouriercache.passes.hoist_conditioning import MOVING, hoistable
from fouriercache.program import Program, tensor_of

aten = torch.ops.aten


class Scales:
    """The factors of the slots: coefficients, or gates times coefficients, built once for all sites."""

    def __init__(self, program: Program, gates: Sequence[fx.Node]) -> None:
        (self.coefficients,) = program.inputs_of("coefficients")
        self.history = program.history
        still = set(hoistable(program, MOVING))
        moving = [node for node in program.calls() if node not in still]
        self._border = moving[0]
        self._plain: list[fx.Node] = []
        self._gated: dict[fx.Node, list[fx.Node]] = {}
        groups: dict[tuple[object, ...], list[fx.Node]] = {}
        for gate in gates:
            if gate in still or gate.op == "placeholder":
                tensor = tensor_of(gate)
                assert tensor is not None
                groups.setdefault((tensor.dtype, *map(str, tensor.shape)), []).append(gate)
        for alike in groups.values():
            self._stack(list(dict.fromkeys(alike)))

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
            wide = anchor = _wide(gate)
            for k in range(self.history):
                anchor = insert_after(anchor, aten.mul.Tensor, wide, self.plain(k), like=gate)
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
