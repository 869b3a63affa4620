"""How an indicator lies on its token grid, and the matrix products that filter it there."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import fx

from fouriercache.indicators import Indicator
from fouriercache.passes.edit import insert_before, insert_input
from fouriercache.program import NoMatch, Program, tensor_of

aten = torch.ops.aten


@dataclass(frozen=True)
class Axes:
    """How a value lies on its grid: [..., sizes, channels] in row-major order, cut to the tokens `cut` first.

    No sizes: the value is not filtered.
    """

    sizes: tuple[int, ...] = ()
    channels: int = 1
    cut: tuple[int, int] | None = None


def find_axes(program: Program, indicator: Indicator, node: fx.Node) -> Axes | NoMatch:
    """The grid of the value that an indicator is made of, or why it cannot be told."""
    if not indicator.is_filtered:
        return Axes()
    tensor = tensor_of(node)
    shape: Sequence[object] = () if tensor is None else tuple(tensor.shape)
    known = [size for size in shape[1:] if isinstance(size, int)]
    if len(known) != len(shape) - 1 or len(known) < 2:
        return NoMatch(f"its shape is {list(map(str, shape))}, which shows no grid", node.name)
    if indicator.source == "latents" and len(known) > 2:
        return Axes(_long(known[1:]))  # channels stand first: [batch, channels, height, width]
    if len(known) != 2:
        return NoMatch(f"its shape is {list(map(str, shape))}, not [batch, tokens, channels]", node.name)
    grid, (tokens, channels) = program.grid, known
    if grid is None:
        return NoMatch("its token grid is not known", node.name)
    sizes = _long((grid.t, grid.h, grid.w))
    if tokens == grid.tokens:
        return Axes(sizes, channels)
    # A grid that begins inside a stream is one of that stream; another value of that length may have another order.
    streams = {site.shape[1] for site in program.found["stack"] if len(site.shape) == 3}
    if tokens in streams and tokens >= grid.start + grid.tokens:
        return Axes(sizes, channels, (grid.start, grid.start + grid.tokens))
    return NoMatch(f"it has {tokens} tokens, the grid {grid.tokens} from {grid.start} on", node.name)


def _long(sizes: Sequence[int]) -> tuple[int, ...]:
    """The sizes above 1: along the others there is nothing to filter."""
    return tuple(size for size in sizes if size > 1) or (1,)


def insert_filter(program: Program, value: fx.Node, axes: Axes) -> fx.Node:
    """Multiply a matrix along each axis; the matrices are new inputs."""
    end = program.output_node
    node = value if axes.cut is None else insert_before(end, aten.slice.Tensor, value, 1, *axes.cut, like=value)
    node = insert_wide(node)
    like = tensor_of(node)
    assert like is not None
    for position, size in enumerate(axes.sizes):
        matrix = insert_input(program, f"filter_{position}", like.new_empty((size, size)), "control")
        behind = math.prod(axes.sizes[position + 1 :]) * axes.channels
        rows = insert_before(end, aten.reshape.default, node, [-1, size, behind], like=value)
        node = insert_before(end, aten.matmul.default, matrix, rows, like=value)
    return node


def insert_wide(node: fx.Node) -> fx.Node:
    """The value in float32 or wider."""
    tensor = tensor_of(node)
    if tensor is None or tensor.dtype not in (torch.float16, torch.bfloat16):
        return node
    return insert_before(node.graph.output_node(), aten.to.dtype, node, torch.float32)
