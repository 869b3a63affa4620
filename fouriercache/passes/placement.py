"""Which sites lie on the token grid, and what their transforms need as constants of the program."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, fx

from fouriercache.errors import UnsupportedModelError
from fouriercache.passes.edit import insert_constant
from fouriercache.program import NoMatch, Program, Site, TokenGrid, tensor_of
from fouriercache.spectral import Basis, band_map, grid_bases, is_left, kept_sizes


def place_on_grid(program: Program, site: Site) -> int | NoMatch:
    """Return the index of the grid's first token in a site's value, or why the value is not on the grid.

    A value of just the grid's tokens is the grid. A longer one holds it from `grid.start` on if that is said: at a
    start of 0 nobody can tell an image in front of a text from one behind it.
    """
    grid = program.grid
    if grid is None:
        return NoMatch(f"{site.name}: there is no token grid", site.value)
    if len(site.shape) != 3 or not all(isinstance(size, int) for size in site.shape[1:]):
        return NoMatch(f"{site.name}: its shape is not [batch, tokens, channels]", site.value)
    tokens = int(site.shape[1])
    if tokens == grid.tokens:
        return 0
    if grid.start and tokens >= grid.start + grid.tokens:
        return grid.start
    shown = f"{grid.t} x {grid.h} x {grid.w} grid from token {grid.start}"
    return NoMatch(f"{site.name}: its {tokens} tokens do not hold the {shown}", site.value)


def require_grid(program: Program, asker: str) -> None:
    """Raise UnsupportedModelError unless at least one site lies on the token grid."""
    reasons = [place for site in program.sites if isinstance(place := place_on_grid(program, site), NoMatch)]
    if len(reasons) < len(program.sites):
        return
    why = program.refused.get("FindGrid", []) if program.grid is None else reasons[:3]
    raise UnsupportedModelError(
        f"{asker} works on the spatial frequencies of tokens, and no site is known to lie on a token grid.\n"
        + "".join(f"    {reason.reason} at {reason.node}\n" for reason in why)
        + "  Pass optimize(..., grid=fc.TokenGrid(t, h, w)), with start= where the image's tokens stand behind others; "
        "t is 1 for images."
    )


@dataclass(frozen=True)
class Transform:
    """A transform of the token grid: its basis, and the share of coefficients that are kept.

    Coefficients are kept as means, not as sums: the forward matrices are those of the orthonormal basis over the root
    of their size, the inverse ones times that. So no coefficient is larger than the largest token, whatever the size of
    the grid, and float16 does not overflow. An axis that the basis leaves as it is has the identity both ways.
    """

    basis: Basis = "dct"
    keep: float = 1.0

    def box(self, program: Program) -> tuple[int, ...]:
        """How many coefficients each axis of the grid keeps."""
        return kept_sizes(_sizes(program), self.keep, self.basis)

    def forward(self, program: Program, like: Tensor) -> list[fx.Node]:
        """The matrices that lead to coefficients, [kept, size] for each axis longer than 1, on the device of `like`."""
        return self._insert(program, like, "to", lambda matrix, root: matrix / root)

    def inverse(self, program: Program, like: Tensor) -> list[fx.Node]:
        """The matrices that lead back, [size, kept] for each axis longer than 1."""
        return self._insert(program, like, "from", lambda matrix, root: matrix.T * root)

    def widening(self, program: Program, like: Tensor, whole: Transform) -> list[fx.Node]:
        """The matrices that put these coefficients among those of `whole`, zeros between: [whole, kept] an axis."""
        pairs = [(n, k) for n, k in zip(whole.box(program), self.box(program), strict=True) if n > 1] or [(1, 1)]
        return [_insert(program, f"{self.basis}_widen_{k}_{n}", torch.eye(n, k), like, like.dtype) for n, k in pairs]

    def positions(self, program: Program, like: Tensor, start: int, length: int) -> fx.Node:
        """Indices of the kept entries, int64, in a value of `length` tokens whose grid begins at `start`."""
        sizes = _sizes(program)
        index = torch.arange(math.prod(sizes)).view(sizes)
        for axis, kept in enumerate(self.box(program)):
            index = index.narrow(axis, 0, kept)
        inside = index.flatten() + start
        whole = torch.cat([torch.arange(start), inside, torch.arange(start + math.prod(sizes), length)])
        name = f"{self.basis}_kept_{'_'.join(map(str, self.box(program)))}_{start}_{length}"
        return _insert(program, name, whole, like, torch.int64)

    def bands(self, program: Program, like: Tensor, edges: Sequence[float], start: int, length: int) -> fx.Node:
        """Band of each entry, int64 [length], in a value whose grid begins at `start`.

        A token outside the grid is a grid of its own, whose one frequency is 0: the lowest band.
        """
        bands = torch.zeros(length, dtype=torch.int64)
        inside = band_map(_sizes(program), edges, self.basis).flatten()
        bands[start : start + len(inside)] = inside
        return _insert(program, f"{self.basis}_bands_{start}_{length}", bands, like, torch.int64)

    def _insert(
        self, program: Program, like: Tensor, way: str, scaled: Callable[[Tensor, float], Tensor]
    ) -> list[fx.Node]:
        found = []
        sizes = _sizes(program)
        long = [axis for axis, size in enumerate(sizes) if size > 1] or [0]
        for axis, matrix in zip(long, grid_bases(sizes, self.basis, keep=self.keep), strict=True):
            kept, size = matrix.shape
            is_same = is_left(axis, sizes, self.basis)
            name = f"same_{size}" if is_same else f"{self.basis}_{way}_{size}_{kept}"
            found.append(_insert(program, name, scaled(matrix, 1.0 if is_same else math.sqrt(size)), like, like.dtype))
        return found


def _sizes(program: Program) -> tuple[int, int, int]:
    grid = program.grid or TokenGrid(1, 1, 1)
    return grid.t, grid.h, grid.w


def _insert(program: Program, name: str, value: Tensor, like: Tensor, dtype: torch.dtype) -> fx.Node:
    """Add a constant on the device of `like`; a matrix in float32, or wider if `dtype` is."""
    if dtype.is_floating_point:
        dtype = torch.promote_types(dtype, torch.float32)
        name = name if dtype == torch.float32 else f"{name}_{str(dtype).removeprefix('torch.')}"
    # A constant made in a call under torch.inference_mode must serve later calls that are not.
    with torch.inference_mode(False):
        return insert_constant(program, name, value.to(like.device, dtype).clone(memory_format=torch.contiguous_format))


def length_of(site: Site) -> int:
    """Tokens of a site that is on the grid."""
    return int(site.shape[1])


def fake_of(node: fx.Node) -> Tensor:
    """The fake tensor of a node that has one."""
    found = tensor_of(node)
    assert found is not None
    return found
