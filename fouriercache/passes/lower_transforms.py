"""Write the transforms of the token grid as matrix products."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import cast

import torch
from torch import fx

from fouriercache import ops
from fouriercache.errors import PassError
from fouriercache.passes.base import Pass
from fouriercache.passes.edit import insert_before, replace_uses
from fouriercache.passes.placement import fake_of
from fouriercache.program import Program

aten = torch.ops.aten
_TRANSFORMS = (ops.fft_compress, ops.fft_expand)


@dataclass(frozen=True)
class LowerTransforms(Pass):
    """Replace `fft_compress` and `fft_expand` by one batched matrix product for each axis of the grid.

    Tokens lie in row-major order, so every axis but the last is reached by a view, the channels and all later axes
    being one long row: nothing is transposed. Half precision is transformed in float32. There is no other route: see
    docs/design/0002-spectral-state.md.

    Before::

        main(%0: f32[2,6,8])
          %1: f32[2,6,8] = fouriercache.fft_compress(%0, [@rows, @columns], 0)
          return [%1]

    After::

        main(%0: f32[2,6,8])
          %1: f32[2,2,24] = reshape.default(%0, [-1, 2, 24])
          %2: f32[2,2,24] = matmul.default(@rows, %1)
          %3: f32[4,3,8] = reshape.default(%2, [-1, 3, 8])
          %4: f32[4,3,8] = matmul.default(@columns, %3)
          %5: f32[2,6,8] = reshape.default(%4, [-1, 6, 8])
          return [%5]

    Requires: nothing.
    Keeps: 1. a program without transforms.
    Error: rounding; the product may be summed in another order.
    """

    def rewrite(self, program: Program) -> int:
        count = 0
        for target in _TRANSFORMS:
            for node in list(program.graph.find_nodes(op="call_function", target=target)):
                replace_uses(node, _lowered(node))
                program.graph.erase_node(node)
                count += 1
        return count

    def ensures(self, program: Program) -> None:
        if any(program.graph.find_nodes(op="call_function", target=target) for target in _TRANSFORMS):
            raise PassError("LowerTransforms left a transform")


def _lowered(node: fx.Node) -> fx.Node:
    """Write one transform in front of itself; return its result."""
    tokens, matrices, start = cast(tuple[fx.Node, list[fx.Node], int], node.args)
    shapes = [tuple(map(int, fake_of(matrix).shape)) for matrix in matrices]
    length, channels = (int(size) for size in fake_of(tokens).shape[-2:])
    size = math.prod(columns for _, columns in shapes)
    is_part = length != size
    found = insert_before(node, aten.slice.Tensor, tokens, 1, start, start + size) if is_part else tokens
    wide = fake_of(matrices[0]).dtype
    if fake_of(found).dtype != wide:
        found = insert_before(node, aten.to.dtype, found, wide)
    for axis, (matrix, (_, columns)) in enumerate(zip(matrices, shapes, strict=True)):
        behind = math.prod(later for _, later in shapes[axis + 1 :]) * channels
        # Axes that have been transformed already stand with the batch: each of their entries is a matrix of its own.
        found = insert_before(node, aten.reshape.default, found, [-1, columns, behind])
        found = insert_before(node, aten.matmul.default, matrix, found)
    found = insert_before(node, aten.reshape.default, found, [-1, math.prod(rows for rows, _ in shapes), channels])
    if fake_of(found).dtype != fake_of(node).dtype:
        found = insert_before(node, aten.to.dtype, found, fake_of(node).dtype)
    if not is_part:
        return found
    before = insert_before(node, aten.slice.Tensor, tokens, 1, 0, start)
    behind_grid = insert_before(node, aten.slice.Tensor, tokens, 1, start + size, length)
    return insert_before(node, aten.cat.default, [before, found, behind_grid], 1)
