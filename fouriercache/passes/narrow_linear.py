"""Compute of a projection only what is read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import fx

from fouriercache.passes.base import Pass
from fouriercache.passes.edit import erase_chain, insert_before, replace_uses
from fouriercache.passes.rows import Reading, Rows, merge_rows, read_rows, rows_of
from fouriercache.program import NoMatch, Program, tensor_of

aten = torch.ops.aten
_Made = dict[tuple[Rows, fx.Node], fx.Node]


@dataclass(frozen=True)
class NarrowLinear(Pass):
    """Replace a linear of which only pieces are read by linears over the rows of its weight that give those pieces.

    One linear gives a DiT block its six modulations; a reuse step reads the two gates, so two thirds of the largest
    weights left in it need not be read. The narrow weights are views: a weight changed in place takes effect, and
    nothing is copied. Rows that lie side by side stay one linear.

    Before::

        main(%0: f32[2,4])
          %1: f32[2,6] = linear.default(%0, @weight, @bias)
          %2: (f32[2,2], f32[2,2], f32[2,2]) = chunk.default(%1, 3, 1)
          %3: f32[2,2] = getitem(%2, 2)
          return [%3]

    After::

        main(%0: f32[2,4])
          %1: f32[2,4] = slice.Tensor(@weight, 0, 4, 6)
          %2: f32[2] = slice.Tensor(@bias, 0, 4, 6)
          %3: f32[2,2] = linear.default(%0, %1, %2)
          return [%3]

    A piece is a slice or one output of a chunk or split of the last dimension, or, behind a view of it as [groups,
    rows], a slice, an output of a chunk, split or unbind, or a select of the groups; views that leave the last
    dimension alone may stand before and between pieces.

    Requires: nothing; `RemoveDead` first shows which pieces are read.
    Keeps: 1. a linear whose pieces are all read.
           2. a linear that something reads whole.
           3. a linear read through a piece of another dimension, with a step, or with a bound that is not a number.
           4. a linear whose pieces are cut at different grains.
    Error: the rounding of one matrix product: the library may order the sums of a narrow product otherwise.
    """

    def rewrite(self, program: Program) -> int:
        count = 0
        for linear in program.graph.find_nodes(op="call_function", target=aten.linear.default):
            readings = read_rows(linear)
            if isinstance(readings, NoMatch):
                self.refuse(program, readings)
            elif readings:
                ranges = merge_rows(reading.rows for reading in readings)
                if ranges != [rows_of(linear)]:
                    _narrow(linear, readings, ranges)
                    count += 1
        return count


def _narrow(linear: fx.Node, readings: list[Reading], ranges: list[Rows]) -> None:
    made: _Made = {}
    for rows in ranges:
        source, weight, *bias = linear.args
        parts = [insert_before(linear, aten.slice.Tensor, part, 0, rows.start, rows.stop) for part in (weight, *bias) if part is not None]
        made[rows, linear] = insert_before(linear, aten.linear.default, source, *parts)
    for reading in readings:
        (rows,) = (rows for rows in ranges if rows.start <= reading.rows.start and reading.rows.stop <= rows.stop)
        replace_uses(reading.path[-1], _replay(reading, rows, made))
    erase_chain(linear)
