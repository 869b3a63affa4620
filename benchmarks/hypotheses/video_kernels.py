"""The graph nodes on (T, H, W) grids, as they run, against `torch.fft`; what 3-D costs against frame by frame."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from fouriercache import ops
from fouriercache.passes.lower_transforms import LowerTransforms
from fouriercache.spectral import grid_bases, sea_filters, wiener_gain
from fouriercache.testing import trace

from .finding import Table

GRIDS = ((1, 8, 8), (4, 16, 16), (5, 9, 7), (13, 30, 45))
"""Frames, rows and tokens in a row: the last is that of 49 frames of 480 x 720 pixels in CogVideoX's latents."""
CHANNELS = 8


def check_kernels() -> Table:
    """Compare the nodes on random features with `torch.fft`; count what 3-D costs against frame by frame."""
    rows = []
    for grid in GRIDS:
        x = torch.randn(1, math.prod(grid), CHANNELS, generator=torch.Generator().manual_seed(0))
        rows.append((" x ".join(map(str, grid)), _transform_error(x, grid), _filter_error(x, grid), _more_work(grid)))
    return Table(
        "Nodes as they run, float32, against `torch.fft` in float64 on random features: relative L2 error. "
        "Work: multiply-adds of the 3-D transform over those of the 2-D transform of every frame.",
        ("grid", "transform", "SeaCache's filter", "work, 3-D / 2-D"),
        tuple(rows),
        {"transform": ".1e", "SeaCache's filter": ".1e", "work, 3-D / 2-D": ".2f"},
    )


def _transform_error(x: Tensor, grid: tuple[int, ...]) -> float:
    """Compress with the DFT and compare the power of every frequency with `torch.fft.fftn`."""
    bases = [matrix.float().contiguous() for matrix in grid_bases(grid, "dft")]
    program = trace(lambda value: ops.fft_compress(value, bases, 0), x)
    LowerTransforms().apply(program)
    found = program.module()(x)[0].double()
    long = [size for size in grid if size > 1]
    exact = x.double().unflatten(1, long)
    for dim in range(1, len(long) + 1):
        exact = _real_dft(exact, dim)
    return float((found - exact.flatten(1, -2)).norm() / exact.norm())


def _real_dft(x: Tensor, dim: int) -> Tensor:
    """The orthonormal real DFT of one axis, by `torch.fft.rfft`."""
    x = x.movedim(dim, -1)
    size, spectrum = x.shape[-1], torch.fft.rfft(x, norm="ortho")
    pairs = torch.stack([spectrum.real, -spectrum.imag], dim=-1)[..., 1:, :].flatten(-2) * math.sqrt(2)
    found = torch.cat([spectrum.real[..., :1], pairs], dim=-1)[..., :size]
    if size % 2 == 0:
        found[..., -1] /= math.sqrt(2)
    return found.movedim(-1, dim)


def _filter_error(x: Tensor, grid: tuple[int, ...], signal: float = 0.6, noise: float = 0.8) -> float:
    """SeaCache's filter as circulant matrices, against its gain on `torch.fft.fftn`."""
    matrices = sea_filters(grid, signal, noise, beta=3.0, dtype=torch.float32)
    program = trace(lambda value: ops.fft_compress(value, list(matrices), 0), x)
    LowerTransforms().apply(program)
    found = program.module()(x)[0].double()
    long = [size for size in grid if size > 1]
    gain = torch.ones(long, dtype=torch.float64)
    for axis, size in enumerate(long):
        gain = gain * wiener_gain(size, signal, noise, 3.0).view([-1 if axis == at else 1 for at in range(len(long))])
    dims = tuple(range(1, len(long) + 1))
    spectrum = torch.fft.fftn(x.double().unflatten(1, long), dim=dims) * (gain / gain.mean())[..., None]
    exact = torch.fft.ifftn(spectrum, dim=dims).real.flatten(1, -2)
    return float((found - exact).norm() / exact.norm())


def _more_work(grid: tuple[int, ...]) -> float:
    """A product along an axis costs its size for every token; an axis of 1 costs nothing."""
    frames, *frame = (size if size > 1 else 0 for size in grid)
    return (frames + sum(frame)) / sum(frame)
