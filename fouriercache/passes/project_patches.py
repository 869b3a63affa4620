"""Write a patch embedding as what it is, one matrix product over the patches."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx

from fouriercache.passes.base import Pass
from fouriercache.passes.edit import insert_before, renew_readers, replace_uses
from fouriercache.program import NoMatch, Program, tensor_of

aten = torch.ops.aten
_CONVOLUTIONS: dict[object, int] = {aten.conv2d.default: 2, aten.conv3d.default: 3}


@dataclass(frozen=True)
class ProjectPatches(Pass):
    """Replace a convolution whose kernel is as large as its stride by a linear layer over the patches.

    A computed step hides what a patch embedding costs; in a cached step it is the largest call. A convolution gives
    the tokens in the order [channels, tokens], against which every later call on the stream is strided; the linear
    layer gives them as [tokens, channels].

    Before::

        main(%0: f32[1,3,8,8])
          %1: f32[1,16,4,4] = conv2d.default(%0, @weight, @bias, [2, 2])
          %2: f32[1,16,16] = flatten.using_ints(%1, 2)
          %3: f32[1,16,16] = transpose.int(%2, 1, 2)
          return [%3]

    After::

        main(%0: f32[1,3,8,8])
          %1: f32[1,3,4,2,4,2] = view.default(%0, [1, 3, 4, 2, 4, 2])
          %2: f32[1,3,2,2,4,4] = permute.default(%1, [0, 1, 3, 5, 2, 4])
          %3: f32[1,3,2,2,4,4] = clone.default(%2, memory_format=torch.contiguous_format)
          %4: f32[1,12,16] = view.default(%3, [1, 12, 16])
          %5: f32[1,16,12] = transpose.int(%4, 1, 2)
          %6: f32[1,16,12] = clone.default(%5, memory_format=torch.contiguous_format)
          %7: f32[16,12] = flatten.using_ints(@weight, 1)
          %8: f32[1,16,16] = linear.default(%6, %7, @bias)
          return [%8]

    Requires: nothing.
    Keeps: 1. a convolution whose patches overlap, leave gaps or are padded.
           2. one in groups or with dilation.
           3. one of an image whose height or width is dynamic or no multiple of the kernel.
           4. one whose result is not read by `flatten` and `transpose` alone.
           5. one whose tokens are seen in a view that needs their strides.
    Error: the rounding of one matrix product: the sums are taken in another order.
    """

    def rewrite(self, program: Program) -> int:
        count = 0
        for node in list(program.calls()):
            if node.target not in _CONVOLUTIONS:
                continue
            grid, stream = _grid_of(node), _stream_of(node)
            if isinstance(grid, NoMatch):
                self.refuse(program, grid)
            elif isinstance(stream, NoMatch):
                self.refuse(program, stream)
            elif _project(node, grid, stream):
                count += 1
            else:
                self.refuse(program, NoMatch(f"what reads {stream.name} needs its strides", node.name))
        return count


def _grid_of(node: fx.Node) -> tuple[int, ...] | NoMatch:
    """How many patches lie along each dimension of the image."""
    image, weight = tensor_of(node.args[0]), tensor_of(node.args[1])
    dims = _CONVOLUTIONS[node.target]
    if image is None or weight is None or image.ndim != dims + 2 or node.kwargs:
        return NoMatch(f"{node.name} is written in another way", node.name)
    given = dict(enumerate(node.args))
    stride, padding, dilation = (_each(given.get(place, usual), dims) for place, usual in ((3, 1), (4, 0), (5, 1)))
    kernel = list(weight.shape[2:])
    sizes: list[Any] = list(image.shape[2:])
    if stride != kernel or padding != [0] * dims:
        return NoMatch(f"the patches of {node.name} overlap, leave gaps or are padded", node.name)
    if given.get(6, 1) != 1 or dilation != [1] * dims:
        return NoMatch(f"{node.name} is in groups or dilated", node.name)
    if not all(isinstance(size, int) and size % width == 0 for size, width in zip(sizes, kernel, strict=True)):
        return NoMatch(f"the image of {node.name} is not cut evenly: {sizes} by {kernel}", node.name)
    return tuple(size // width for size, width in zip(sizes, kernel, strict=True))


def _each(option: object, dims: int) -> list[object]:
    """An option of a convolution for each dimension."""
    values: list[object] = list(option) if isinstance(option, Sequence) else [option]
    return values * dims if len(values) == 1 else values


def _stream_of(node: fx.Node) -> fx.Node | NoMatch:
    """The tokens, which are `flatten` and `transpose` of a convolution that nothing else reads."""
    flat = next(iter(node.users)) if len(node.users) == 1 else node
    stream = next(iter(flat.users)) if len(flat.users) == 1 else flat
    is_flat = (flat.target, *flat.args[1:]) in ((aten.flatten.using_ints, 2), (aten.flatten.using_ints, 2, -1))
    if is_flat and stream.target is aten.transpose.int and set(stream.args[1:]) in ({1, 2}, {-1, -2}, {1, -1}, {-2, 2}):
        return stream
    return NoMatch(f"{node.name} is not read as [batch, tokens, channels]", node.name)


def _project(node: fx.Node, grid: tuple[int, ...], stream: fx.Node) -> bool:
    """Rewrite one; False, with the graph as it was, where the tokens' readers cannot take them as they then lie."""
    before, image, weight = node.prev, node.args[0], node.args[1]
    bias = node.args[2] if len(node.args) > 2 else None
    shape, kernel = tensor_of(image).shape, tensor_of(weight).shape[2:]  # type: ignore[union-attr]
    batch = insert_before(node, aten.sym_size.int, image, 0) if isinstance(shape[0], torch.SymInt) else shape[0]
    cells = [size for pair in zip(grid, kernel, strict=True) for size in pair]
    axes = range(2, 2 + len(cells))
    split = insert_before(node, aten.view.default, image, [batch, shape[1], *cells])
    # the entries of a patch first: a row of the grid is then copied at a time, and not a row of a patch
    turned = insert_before(node, aten.permute.default, split, [0, 1, *axes[1::2], *axes[::2]])
    rows = insert_before(
        node, aten.view.default, _copy(node, turned), [batch, shape[1] * math.prod(kernel), math.prod(grid)]
    )
    patches = _copy(node, insert_before(node, aten.transpose.int, rows, 1, 2))
    matrix = insert_before(node, aten.flatten.using_ints, weight, 1)
    tokens = insert_before(node, aten.linear.default, patches, matrix, bias)
    replace_uses(stream, tokens)
    if not renew_readers(tokens):
        replace_uses(tokens, stream)
        while node.prev is not before:
            node.graph.erase_node(node.prev)
        return False
    for dead in (stream, stream.all_input_nodes[0], node):
        dead.graph.erase_node(dead)
    return True


def _copy(anchor: fx.Node, view: fx.Node) -> fx.Node:
    return insert_before(anchor, aten.clone.default, view, memory_format=torch.contiguous_format)
