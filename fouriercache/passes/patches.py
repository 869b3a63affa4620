"""The token grid of a model that cuts its latents into patches by views alone, before a linear layer."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, fx

from fouriercache.cost import hinted
from fouriercache.passes.match import CASTS, is_view
from fouriercache.program import NoMatch, TokenGrid, tensor_of


def views_between(node: fx.Node, sample: fx.Node) -> list[fx.Node] | None:
    """The views and casts that lead from `sample` to `node`, in order; None when other calls do."""
    chain: list[fx.Node] = []
    while node is not sample:
        first = node.args[0] if node.op == "call_function" and node.args else None
        if not isinstance(first, fx.Node) or not (is_view(node) or node.target in CASTS):
            return None
        chain.append(node)
        node = first
    return chain[::-1]


def read_patches(sample: fx.Node, chain: list[fx.Node]) -> TokenGrid | NoMatch:
    """Read the grid off the views, by where they put each coordinate of the sample.

    Every entry of a token then stands in one box of the sample, and the boxes follow each other row by row. Entries
    stand behind the last dimension, the batch (and frames that are folded into it) in front. A dimension of the sample
    that every token has whole is one of channels.
    """
    like = tensor_of(sample)
    assert like is not None
    sizes = [hinted(size) for size in like.shape]
    cells: list[Tensor] = []
    frames = 1
    for axis, size in enumerate(sizes):
        shape = [1] * len(sizes)
        shape[axis] = size
        put = _run(torch.arange(size).view(shape).expand(sizes).contiguous(), chain)
        if put is None or put.ndim < 3:
            return NoMatch("what the patch embedding reads is not [batch, tokens, channels]", sample.name)
        rows = put.flatten(1, -2)
        if axis == 0:
            frames = rows.shape[0] // size
            continue
        low, high = rows[0].amin(-1), rows[0].amax(-1)
        width = int((high - low).max()) + 1
        if width == size or low.unique().numel() == 1:
            continue  # channels, or one frame of those in the batch
        if (high - low + 1 != width).any() or (low % width != 0).any():
            return NoMatch("the views before the patch embedding cut no even boxes", sample.name)
        cells.append(low // width)
    if len(cells) not in (2, 3):
        return NoMatch("no patch embedding shows the grid; pass grid=", sample.name)
    t, h, w = (1, *(int(cell.max()) + 1 for cell in cells))[-3:]
    position = torch.zeros_like(cells[0])
    for cell in cells:
        position = position * (int(cell.max()) + 1) + cell
    if not torch.equal(position, torch.arange(t * h * w)):
        return NoMatch("the tokens do not follow each other row by row", sample.name)
    return TokenGrid(t * frames, h, w)


def _run(value: Tensor, chain: list[fx.Node]) -> Tensor | None:
    """The views of a call at the sizes of the capture, of a real tensor."""

    def known(argument: Any) -> Any:
        held = argument.meta["val"] if isinstance(argument, fx.Node) else argument
        return hinted(held) if isinstance(held, int | torch.SymInt) and not isinstance(held, bool) else held

    for node in chain:
        if node.target in CASTS:
            continue
        rest = torch.utils._pytree.tree_map(known, node.args[1:])
        if any(isinstance(leaf, Tensor) for leaf in torch.utils._pytree.tree_leaves(rest)):
            return None
        value = node.target(value, *rest, **node.kwargs)  # type: ignore[operator]
    return value
