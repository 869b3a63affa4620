"""Find the token grid of the sample, from the graph alone."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import fx

from fouriercache.cost import hinted
from fouriercache.errors import UnsupportedModelError
from fouriercache.passes.base import Pass
from fouriercache.passes.match import CASTS, is_view, strip
from fouriercache.passes.patches import read_patches, views_between
from fouriercache.program import NoMatch, Program, TokenGrid, tensor_of

aten = torch.ops.aten
_PADS = {aten.pad.default, aten.constant_pad_nd.default}
_CONVOLUTIONS = {aten.conv2d.default, aten.conv3d.default, aten.conv2d.padding, aten.conv3d.padding}


@dataclass(frozen=True)
class FindGrid(Pass):
    """Read the token grid off the patch embedding: a strided convolution of the sample, which may be padded for it, or
    views before a linear.

    Spectral nodes transform along the true height and width (and time) of the tokens; a flattened sequence is not a
    grid. Packed models (FLUX) show no patch embedding: they are refused, and `grid=` says the grid instead.

    Before: no facts. After: the same graph; `program.grid` is filled.

    Requires: nothing.
    Keeps: 1. a model without a patch embedding of its sample.
           2. a grid whose token count is not the length of the token stream.
    Error: exact.
    """

    def rewrite(self, program: Program) -> int:
        if program.grid is not None:
            return 0
        grid = _read_grid(program)
        if isinstance(grid, NoMatch):
            self.refuse(program, grid)
            return 0
        program.grid = grid
        return 1


def _read_grid(program: Program) -> TokenGrid | NoMatch:
    """Return the grid that the patch embedding shows, or why none is shown."""
    samples = set(program.inputs_of("sample"))
    for node in program.calls():
        source = _source(node) if node.target in _CONVOLUTIONS or node.target is aten.linear.default else None
        if source is None or source not in samples:
            continue
        shown = _of_convolution(node, source) if node.target in _CONVOLUTIONS else _of_linear(node, source)
        return _placed(program, shown, node) if isinstance(shown, TokenGrid) else shown
    return NoMatch("no linear or convolution reads the sample, so no patch embedding shows the grid; pass grid=")


def _of_convolution(node: fx.Node, sample: fx.Node) -> TokenGrid | NoMatch:
    tensor, latents = tensor_of(node), tensor_of(sample)
    spatial = tuple(tensor.shape[2:]) if tensor is not None else ()
    if tensor is None or latents is None or not all(isinstance(size, int) for size in spatial):
        return NoMatch("the patch embedding's output has a dynamic size", node.name)
    folded = hinted(tensor.shape[0]) // hinted(latents.shape[0])  # frames in the batch
    t, h, w = (folded, *spatial) if len(spatial) == 2 else spatial
    return TokenGrid(t, h, w)


def _of_linear(node: fx.Node, sample: fx.Node) -> TokenGrid | NoMatch:
    first = node.args[0]
    chain = views_between(first, sample) if isinstance(first, fx.Node) else None
    if chain is None:
        return NoMatch("no patch embedding shows the grid; pass grid=", node.name)
    return read_patches(sample, chain)


def _placed(program: Program, grid: TokenGrid, node: fx.Node) -> TokenGrid | NoMatch:
    lengths = _token_counts(program, "stack")
    if not lengths or grid.tokens in lengths:
        return grid
    # Frames folded into the batch: each stream holds one frame's tokens.
    if math.prod((grid.h, grid.w)) in lengths:
        return TokenGrid(1, grid.h, grid.w)
    return NoMatch(
        f"the patch embedding gives {grid.tokens} tokens, the stream has {sorted(map(str, lengths))}", node.name
    )


def check_grid(program: Program, grid: TokenGrid) -> None:
    """Check that a grid which the caller gave fits a token stream of the sites found.

    It fits when a stream has as many tokens as the grid, or as one of its frames (others are folded into the batch), or
    as both together with the `start` tokens before the grid.

    Raises:
        UnsupportedModelError: it fits none, or contradicts the grid that the graph shows; the message has the counts.
    """
    shown = _read_grid(program)
    if isinstance(shown, TokenGrid) and shown.tokens == grid.tokens and shown != replace(grid, start=0):
        raise UnsupportedModelError(
            f"the given grid of {grid.t} x {grid.h} x {grid.w} contradicts the graph, whose patch embedding makes "
            f"{shown.t} x {shown.h} x {shown.w} tokens.\n  Leave grid= out: it is for models whose graph shows none."
        )
    counts = _token_counts(program, *program.found)
    fitting = {grid.tokens, grid.h * grid.w, grid.start + grid.tokens, grid.start + grid.h * grid.w}
    known = sorted(count for count in counts if isinstance(count, int))
    if counts and len(known) == len(counts) and not fitting & set(known):
        raise UnsupportedModelError(
            f"the given grid of {grid.t} x {grid.h} x {grid.w} has {grid.tokens} tokens, and begins at token "
            f"{grid.start}; the sites found have streams of {', '.join(map(str, known))} tokens.\n"
            "  Pass the grid of the model's own tokens, after patching: optimize(..., grid=TokenGrid(t, h, w, start))."
        )


def _token_counts(program: Program, *kinds: str) -> set[int | str]:
    """How many tokens the sites of these kinds have."""
    return {site.shape[1] for kind in kinds for site in program.found.get(kind, ()) if len(site.shape) == 3}


def _source(node: fx.Node) -> fx.Node | None:
    first = node.args[0]
    return (
        strip(first, *_PADS, through=lambda n: is_view(n) or n.target in CASTS) if isinstance(first, fx.Node) else None
    )
