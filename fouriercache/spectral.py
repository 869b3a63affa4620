"""Spatial frequencies of a token grid: bases, bands, filters. Tensors in, tensors out.

A grid has the sizes (T, H, W), or any number of axes; its tokens are in row-major order, the last axis fastest. Every
transform here is real, separable and orthonormal, so it is one matrix for each axis and its inverse is the transposed
matrices. Matrices are computed in float64 and rounded once, to the dtype that is asked for.

Frequencies are measured in half cycles a token: 0 is the mean over the axis, 1 is the fastest there is (Nyquist).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

Basis = Literal["dct", "dft", "frame_dct"]
"""How a grid is transformed: by the DCT-II or the real DFT of every axis, or by the DCT-II of each frame by itself.

With "frame_dct" the first of three axes, time, is left as it is, and has no frequencies. An image has one frame, so
there it is "dct".
"""

_ON_EDGE = 1e-12
"""Radii this close to an edge lie on it: k/n and its square root round in float64."""


def dct_basis(size: int, dtype: torch.dtype = torch.float64) -> Tensor:
    """Return the orthonormal DCT-II of an axis, [size, size]: a row for each frequency, ascending.

    `C[k, n] = sqrt((2 - [k = 0]) / size) * cos(pi * k * (n + 1/2) / size)` (Ahmed, Natarajan and Rao 1974, in the
    orthonormal scaling: SciPy's `dct(type=2, norm="ortho")`).
    """
    tokens = torch.arange(size, dtype=torch.float64)
    rows = torch.cos(math.pi / size * tokens[:, None] * (tokens + 0.5)) * math.sqrt(2 / size)
    # not written in place: a traced graph may hold this
    return torch.where(tokens[:, None] == 0, 1 / math.sqrt(size), rows).to(dtype)


def dft_basis(size: int, dtype: torch.dtype = torch.float64) -> Tensor:
    """Return the orthonormal real DFT of an axis, [size, size]: a row for each frequency and phase, ascending.

    Row 0 is the mean, `1 / sqrt(size)`; rows 2f - 1 and 2f are `sqrt(2 / size)` times cosine and sine of
    `2 pi f n / size`. With an even size the last row is the alternating one, `(-1)^n / sqrt(size)`, which has no sine.
    With `F = rfft(x, norm="ortho")` a signal's coefficients are `F[0]`, `sqrt(2) Re F[f]` and `-sqrt(2) Im F[f]`.
    """
    tokens = torch.arange(size, dtype=torch.float64)
    phase = 2 * math.pi / size * tokens[1 : size // 2 + 1, None] * tokens
    rows = torch.stack([torch.cos(phase), torch.sin(phase)], dim=1).flatten(0, 1) * math.sqrt(2 / size)
    mean = torch.full((1, size), 1 / math.sqrt(size), dtype=torch.float64)
    rows = torch.cat([mean, rows])[:size]
    if size % 2 == 0:
        rows[-1] = (1 - 2 * (tokens % 2)) / math.sqrt(size)
    return rows.to(dtype)


def axis_frequencies(size: int, basis: Basis = "dct") -> Tensor:
    """Return the frequency of each row of a basis, [size], float64, in half cycles a token: k / size for DCT row k."""
    rows = torch.arange(size, dtype=torch.float64)
    return 2 * torch.ceil(rows / 2) / size if basis == "dft" else rows / size


def is_left(axis: int, sizes: Sequence[int], basis: Basis) -> bool:
    """Whether a basis leaves an axis of a grid as it is."""
    return basis == "frame_dct" and len(sizes) == 3 and axis == 0


def radial_frequencies(sizes: Sequence[int], basis: Basis = "dct") -> Tensor:
    """Return the length of each coefficient's frequency vector over the largest on the grid, `sizes`, float64.

    Each axis has its own frequencies (row over size), so on a grid that is not square a radius is still a spatial
    frequency. An axis of size 1 adds nothing: an image is a video of one frame. Nor does one that the basis leaves as
    it is. All zeros on a grid of one token.
    """
    squares = torch.zeros(tuple(sizes), dtype=torch.float64)
    for axis, size in enumerate(sizes):
        if is_left(axis, sizes, basis):
            continue
        shape = [size if other == axis else 1 for other in range(len(sizes))]
        squares = squares + axis_frequencies(size, basis).square().view(shape)
    radii = squares.sqrt()
    return radii / radii.max().clamp_min(torch.finfo(torch.float64).tiny)


def band_map(sizes: Sequence[int], edges: Sequence[float], basis: Basis = "dct") -> Tensor:
    """Return the radial band of each coefficient, `sizes`, int64: the number of edges below its radius.

    An edge belongs to the band below it: with one edge of 0.1, band 0 is FreqCa's low band, `radius <= 0.1 * largest
    radius` (FreqCa, flux/, the 2-D DCT).
    """
    radii = radial_frequencies(sizes, basis)
    bands = torch.zeros_like(radii, dtype=torch.int64)
    for edge in edges:
        bands = bands + (radii > edge + _ON_EDGE)
    return bands


def low_pass_mask(sizes: Sequence[int], radius: float, basis: Basis = "dct") -> Tensor:
    """Return which coefficients have a radius of at most `radius` (a share of the largest), `sizes`, bool."""
    return band_map(sizes, (radius,), basis) == 0


def kept_sizes(sizes: Sequence[int], keep: float, basis: Basis = "dct") -> tuple[int, ...]:
    """Return how many of the lowest coefficients of each axis make up a share `keep` of all, at least one an axis.

    With d axes longer than 1, each keeps `size * keep**(1/d)` of its rows, rounded to the nearest whole number (half to
    even). The DFT keeps a frequency's cosine and sine together, or the projection would depend on where the grid
    begins: its number is rounded to the nearest odd one (the lower of two), or all. An axis that the basis leaves as it
    is keeps all, and the others the more.
    """
    left = [is_left(axis, sizes, basis) for axis in range(len(sizes))]
    long = max(1, sum(size > 1 for size, is_same in zip(sizes, left, strict=True) if not is_same))
    share = keep ** (1 / long)
    return tuple(n if is_same else _kept(n, n * share, basis) for n, is_same in zip(sizes, left, strict=True))


def _kept(size: int, wanted: float, basis: Basis) -> int:
    if basis != "dft":
        return min(size, max(1, round(wanted)))
    odd = 2 * math.ceil(wanted / 2 - _ON_EDGE) - 1
    # The alternating row of an even size stands alone: the nearest of `odd` and `size` decides.
    return size if size - wanted <= abs(odd - wanted) else min(size, max(1, odd))


def grid_bases(
    sizes: Sequence[int], basis: Basis = "dct", dtype: torch.dtype = torch.float64, keep: float = 1.0
) -> tuple[Tensor, ...]:
    """Return the matrices of a grid's transform, [kept, size] for each axis longer than 1, first axis first.

    A grid of one token has the one matrix [[1]]. An axis that the basis leaves as it is has the identity.
    """
    make = dft_basis if basis == "dft" else dct_basis
    found = []
    for axis, (size, kept) in enumerate(zip(sizes, kept_sizes(sizes, keep, basis), strict=True)):
        if size > 1:
            whole = torch.eye(size, dtype=dtype) if is_left(axis, sizes, basis) else make(size, dtype)
            found.append(whole[:kept].contiguous())
    return tuple(found) or (make(1, dtype),)


def transform(tokens: Tensor, matrices: Sequence[Tensor]) -> Tensor:
    """Apply a matrix along each axis of a token grid: one batched matrix product an axis, and no transposition.

    Args:
        tokens: [..., n_1 * n_2 * ..., channels], row-major.
        matrices: [k_i, n_i] for each axis, of the dtype of `tokens`. The transposed ones of an orthonormal basis
            invert it.

    Returns:
        [..., k_1 * k_2 * ..., channels].
    """
    lead, channels = tokens.shape[:-2], tokens.shape[-1]
    right = [matrix.shape[1] for matrix in matrices]
    found = tokens
    before = 1
    for axis, matrix in enumerate(matrices):
        behind = math.prod(right[axis + 1 :])
        found = matrix @ found.reshape(*lead, before, matrix.shape[1], behind * channels)
        before *= matrix.shape[0]
    return found.reshape(*lead, before, channels)


def wiener_gain(size: int, signal: float, noise: float, beta: float = 2.0) -> Tensor:
    """Return the spectral-evolution-aware gain of an axis, [size], float64, in the order of `torch.fft.fftfreq(size)`.

    `G(f) = a S / (a**2 S + b**2 + 1e-16)` with `S(f) = 1 / (|f|**beta + 1e-16)`, f in cycles a token: the Wiener filter
    of a signal of power S, scaled by `signal` a, under white noise of deviation `noise` b (SeaCache, arXiv 2602.18993).
    Flow models have a = 1 - sigma and b = sigma, DDPM models the square roots of the signal's and the noise's share.
    """
    power: Tensor = 1 / (torch.fft.fftfreq(size, dtype=torch.float64).abs() ** beta + 1e-16)
    return signal * power / (signal**2 * power + noise**2 + 1e-16)


def sea_filters(
    sizes: Sequence[int], signal: float, noise: float, beta: float = 2.0, dtype: torch.dtype = torch.float64
) -> tuple[Tensor, ...]:
    """Return SeaCache's filter of a grid as matrices for `transform`, [size, size] for each axis longer than 1.

    The gain is the product of the axes' `wiener_gain`, over its mean; as the mean of a product over a grid is the
    product of the means, each axis is divided by its own. A gain that is real and even, as this is, filters by a
    symmetric circulant matrix: `real(ifftn(fftn(x) * gain))` in one product an axis, with nothing complex.
    """
    matrices = []
    for size in [size for size in sizes if size > 1] or [1]:
        gain = wiener_gain(size, signal, noise, beta)
        matrices.append(circulant(gain / gain.mean()).to(dtype))
    return tuple(matrices)


def circulant(gain: Tensor) -> Tensor:
    """Return the matrix that multiplies an axis' DFT by `gain`, [size, size]: `real(ifft(gain * fft(x)))`.

    Args:
        gain: [size], real, in the order of `fftfreq`; even, `gain[k] == gain[size - k]`.
    """
    response = torch.fft.ifft(gain).real
    tokens = torch.arange(len(gain))
    matrix: Tensor = response[(tokens[:, None] - tokens) % len(gain)]
    return matrix
