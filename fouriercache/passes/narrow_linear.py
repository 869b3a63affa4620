"""Compute of a projection only what is read."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from operator import getitem

import torch
from torch import fx
from torch.fx.node import Argument

from fouriercache.passes.base import Pass
from fouriercache.passes.edit import insert_before, replace_uses
from fouriercache.passes.rows import Reading, Rows, Shown, merge_rows, read_rows
from fouriercache.program import NoMatch, Program, tensor_of

aten = torch.ops.aten


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
                continue
            ranges = merge_rows(reading[-1].rows for reading in readings)
            if not readings or ranges == [readings[0][0].rows]:
                continue
            plans = [(reading, _home(reading[-1].rows, ranges)) for reading in readings]
            if not all(_splits_evenly(reading, rows) for reading, rows in plans):
                self.refuse(program, NoMatch(f"the pieces of {linear.name} are cut at different grains", linear.name))
                continue
            _narrow(linear, ranges, plans)
            count += 1
        return count


def _home(rows: Rows, ranges: list[Rows]) -> Rows:
    """The range that holds `rows`."""
    return next(found for found in ranges if found.cut(rows) == rows)


def _splits_evenly(reading: Reading, rows: Rows) -> bool:
    return all(shown.splits_evenly(rows.cut(shown.rows)) for shown in reading)


def _narrow(linear: fx.Node, ranges: list[Rows], plans: list[tuple[Reading, Rows]]) -> None:
    source, *parts = linear.args
    made: dict[tuple[fx.Node, Rows], fx.Node] = {}
    for rows in ranges:
        views = [
            insert_before(linear, aten.slice.Tensor, part, 0, rows.start, rows.stop, like=linear)
            for part in parts
            if part is not None
        ]
        made[linear, rows] = insert_before(linear, aten.linear.default, source, *views)
    for reading, rows in plans:
        for above, shown in pairwise(reading):
            if (shown.node, rows) not in made:
                made[shown.node, rows] = _show_again(made[above.node, rows], above, shown, rows)
        replace_uses(reading[-1].node, made[reading[-1].node, rows])
    _erase(linear)


def _show_again(narrow: fx.Node, above: Shown, shown: Shown, rows: Rows) -> fx.Node:
    """Make of `narrow`, which holds the part of `above` that lies in `rows`, what `shown` is made of `above`."""
    node, cover, wanted = shown.node, rows.cut(above.rows), rows.cut(shown.rows)
    grain, size = above.grain or 1, wanted.stop - wanted.start
    value = tensor_of(narrow)
    assert value is not None
    dim = value.ndim - (1 if above.grain is None else 2)
    start = (wanted.start - cover.start) // grain
    if node.target is aten.select.int or (node.target is getitem and shown.grain != above.grain):
        return insert_before(node, aten.select.int, narrow, dim, start)
    if node.target is getitem or node.target is aten.slice.Tensor:
        if wanted == cover:
            return narrow
        return insert_before(node, aten.slice.Tensor, narrow, dim, start, start + size // grain)
    assert callable(node.target)
    return insert_before(node, node.target, narrow, *_resized(shown, size))


def _resized(shown: Shown, size: int) -> list[Argument]:
    """The arguments of a view, for `size` rows."""
    *given, last = shown.node.args[1:]
    if not isinstance(last, list | tuple):
        return [*given, last]
    tail = [size] if shown.grain is None else [size // shown.grain, shown.grain]
    return [*given, [*last[: -len(tail)], *tail]]


def _erase(node: fx.Node) -> None:
    """Erase a node and what reads it: views and pieces that nothing else reads any more."""
    for user in list(node.users):
        _erase(user)
    node.graph.erase_node(node)
