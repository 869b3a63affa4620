"""Bases, bands and filters of token grids, against torch.fft and formulas written another way."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fouriercache.spectral import (
    Basis,
    axis_frequencies,
    band_map,
    circulant,
    dct_basis,
    dft_basis,
    grid_bases,
    kept_sizes,
    low_pass_mask,
    radial_frequencies,
    sea_filters,
    transform,
    wiener_gain,
)

EXACT = 1e-12
unhurried = settings(deadline=None)  # the machine may be busy; these tests are about values
GRIDS = [(16, 16), (1, 8, 6), (5, 7), (3, 4, 5), (2, 9, 9), (1, 1, 1), (7, 1)]
grids = pytest.mark.parametrize("sizes", GRIDS, ids=str)
kinds = pytest.mark.parametrize("basis", ["dct", "dft"])
some_sizes = st.lists(st.integers(1, 9), min_size=1, max_size=3).map(tuple)
some_bases = st.sampled_from(["dct", "dft", "frame_dct"])


def tokens_on(sizes, channels=3, batch=2, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, math.prod(sizes), channels, dtype=torch.float64, generator=generator)


def on_grid(tokens, sizes):
    return tokens.unflatten(-2, sizes)


def dct_by_fft(x, dim):
    """The orthonormal DCT-II by Makhoul's way: the FFT of the even entries, then the odd ones backwards."""
    x = x.movedim(dim, -1)
    size = x.shape[-1]
    spectrum = torch.fft.fft(torch.cat([x[..., ::2], x[..., 1::2].flip(-1)], dim=-1))
    rows = torch.arange(size, dtype=torch.float64)
    found = (spectrum * torch.exp(-0.5j * math.pi * rows / size)).real * math.sqrt(2 / size)
    found[..., 0] /= math.sqrt(2)
    return found.movedim(-1, dim)


@pytest.mark.parametrize("size", [1, 2, 3, 8, 15, 64])
@pytest.mark.parametrize("make", [dct_basis, dft_basis])
def test_bases_are_orthonormal_to_twelve_digits(make, size: int):
    rows = make(size)
    assert rows.dtype == torch.float64
    assert (rows @ rows.T - torch.eye(size, dtype=torch.float64)).abs().max() < EXACT


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("make", [dct_basis, dft_basis])
def test_bases_are_rounded_once_from_double(make, dtype):
    assert torch.equal(make(24, dtype), make(24).to(dtype))


@pytest.mark.parametrize("size", [1, 2, 5, 8, 33])
def test_dct_is_that_of_an_fft(size: int):
    x = torch.randn(4, size, dtype=torch.float64, generator=torch.Generator().manual_seed(size))
    assert (x @ dct_basis(size).T - dct_by_fft(x, -1)).abs().max() < EXACT


@pytest.mark.parametrize("size", [1, 2, 5, 8, 33])
def test_real_dft_is_that_of_torch_fft(size: int):
    x = torch.randn(4, size, dtype=torch.float64, generator=torch.Generator().manual_seed(size))
    spectrum = torch.fft.rfft(x, norm="ortho")
    pairs = torch.stack([spectrum.real, -spectrum.imag], dim=-1)[:, 1:].flatten(1) * math.sqrt(2)
    want = torch.cat([spectrum.real[:, :1], pairs], dim=1)[:, :size]
    if size % 2 == 0:
        want[:, -1] /= math.sqrt(2)
    assert (x @ dft_basis(size).T - want).abs().max() < EXACT


@grids
def test_transform_runs_along_every_axis_of_the_grid(sizes):
    x = tokens_on(sizes)
    want = on_grid(x, sizes)
    for axis in range(len(sizes)):
        want = dct_by_fft(want, axis + 1)
    have = transform(x, grid_bases(sizes))
    assert (have - want.flatten(1, -2)).abs().max() < EXACT


@unhurried
@given(sizes=some_sizes, basis=some_bases)
def test_transposed_matrices_invert_and_keep_the_energy(sizes, basis):
    x = tokens_on(sizes)
    matrices = grid_bases(sizes, basis)
    coefficients = transform(x, matrices)
    assert torch.allclose(coefficients.square().sum(), x.square().sum(), rtol=EXACT)
    assert (transform(coefficients, [m.T for m in matrices]) - x).abs().max() < EXACT


@unhurried
@given(sizes=some_sizes, basis=some_bases, keep=st.floats(0.01, 1.0))
def test_truncation_keeps_the_lowest_coefficients_of_each_axis(sizes, basis, keep):
    kept = kept_sizes(sizes, keep, basis)
    assert all(1 <= count <= size for count, size in zip(kept, sizes, strict=True))
    x = tokens_on(sizes)
    whole = on_grid(transform(x, grid_bases(sizes, basis)), sizes)
    part = on_grid(transform(x, grid_bases(sizes, basis, keep=keep)), kept)
    lowest = whole[(slice(None), *(slice(count) for count in kept))]
    assert (part - lowest).abs().max() < EXACT


@kinds
@pytest.mark.parametrize("sizes", [(16, 16), (32, 32), (4, 16, 16)], ids=str)
@pytest.mark.parametrize("keep", [0.05, 0.25, 0.5, 1.0])
def test_kept_coefficients_are_about_the_share_that_is_asked_for(sizes, basis, keep: float):
    kept = kept_sizes(sizes, keep, basis)
    # Each axis is right to half a coefficient (DCT) or one (DFT).
    slack = 0.5 if basis == "dct" else 1.0
    exact = [size * keep ** (1 / len(sizes)) for size in sizes]
    assert all(abs(count - wanted) <= slack for count, wanted in zip(kept, exact, strict=True))


def test_the_counts_of_known_grids_are_these():
    assert kept_sizes((16, 16), 0.25) == (8, 8)
    assert kept_sizes((1, 16, 16), 0.25) == (1, 8, 8)
    assert kept_sizes((8, 16, 16), 0.125) == (4, 8, 8)
    assert kept_sizes((4, 4), 0.001) == (1, 1)
    assert kept_sizes((16, 16), 0.25, "dft") == (7, 7)  # 8 lies between 7 and 9
    assert kept_sizes((16, 15), 1.0, "dft") == (16, 15)


@unhurried
@given(size=st.integers(1, 40), keep=st.floats(0.01, 1.0))
def test_dft_never_parts_a_cosine_from_its_sine(size: int, keep: float):
    (count,) = kept_sizes((size,), keep, "dft")
    assert count == size or count % 2 == 1


def test_frame_dct_is_the_dct_of_each_frame_by_itself():
    sizes = (3, 4, 5)
    x = tokens_on(sizes)
    have = on_grid(transform(x, grid_bases(sizes, "frame_dct")), sizes)
    frames = transform(x.unflatten(1, (3, 20)), grid_bases((4, 5)))
    assert (have - frames.unflatten(2, (4, 5))).abs().max() < EXACT
    of_frame = band_map((4, 5), (0.3, 0.7))
    assert torch.equal(band_map(sizes, (0.3, 0.7), "frame_dct"), of_frame.expand(sizes))


def test_frame_dct_keeps_every_frame_and_an_image_has_one():
    assert kept_sizes((8, 16, 16), 0.25, "frame_dct") == (8, 8, 8)
    assert kept_sizes((8, 6, 6), 0.001, "frame_dct") == (8, 1, 1)
    for sizes in ((1, 6, 5), (6, 5)):
        pairs = zip(grid_bases(sizes, "frame_dct", keep=0.5), grid_bases(sizes, keep=0.5), strict=True)
        assert all(torch.equal(a, b) for a, b in pairs)
        assert torch.equal(radial_frequencies(sizes, "frame_dct"), radial_frequencies(sizes))


def test_frequencies_are_half_cycles_a_token():
    assert axis_frequencies(4).tolist() == [0, 0.25, 0.5, 0.75]
    assert axis_frequencies(4, "dft").tolist() == [0, 0.5, 0.5, 1]
    assert axis_frequencies(5, "dft").tolist() == [0, 0.4, 0.4, 0.8, 0.8]


@kinds
@grids
def test_radii_grow_from_zero_to_one(sizes, basis: Basis):
    radii = radial_frequencies(sizes, basis)
    assert radii.shape == tuple(sizes)
    assert radii.flatten()[0] == 0
    assert radii.max() == (1 if math.prod(sizes) > 1 else 0)


def test_a_radius_is_a_spatial_frequency_on_a_grid_that_is_not_square():
    radii = radial_frequencies((8, 16))
    assert radii[4, 0] == radii[0, 8]  # both are half a cycle in two tokens
    assert torch.equal(radial_frequencies((1, 8, 16))[0], radii)


def test_the_lowest_band_is_that_of_freqca():
    """FLUX at 1024 x 1024: 69 of 64 x 64 coefficients lie within a tenth of the largest radius."""
    assert int(low_pass_mask((64, 64), 0.1).sum()) == 69
    rows = torch.arange(64, dtype=torch.float64)
    radii = (rows[:, None] ** 2 + rows**2).sqrt()
    assert torch.equal(low_pass_mask((64, 64), 0.1), radii <= 0.1 * radii.max())


@unhurried
@given(sizes=some_sizes, edges=st.lists(st.floats(0.01, 0.99), max_size=4, unique=True).map(sorted))
def test_bands_part_the_grid_by_radius(sizes, edges):
    bands = band_map(sizes, edges)
    radii = radial_frequencies(sizes)
    assert bands.shape == tuple(sizes)
    assert bands.dtype == torch.int64
    assert int(bands.min()) == 0
    assert int(bands.max()) <= len(edges)
    order = radii.flatten().argsort(stable=True)
    assert bool((bands.flatten()[order].diff() >= 0).all())


def test_an_edge_belongs_to_the_band_below():
    assert band_map((4,), (1 / 3, 2 / 3)).tolist() == [0, 0, 1, 2]
    assert band_map((2, 2), ()).tolist() == [[0, 0], [0, 0]]


@pytest.mark.parametrize("sizes", [(8, 8), (6, 9), (1, 8, 5), (3, 4, 6)], ids=str)
@pytest.mark.parametrize(("signal", "noise"), [(0.9, 0.1), (0.3, 0.7), (1 - 1e-6, 1e-6)])
@pytest.mark.parametrize("beta", [2.0, 3.0])
def test_sea_filter_is_the_published_one(sizes, signal: float, noise: float, beta: float):
    x = tokens_on(sizes)
    gain = torch.ones(tuple(sizes), dtype=torch.float64)
    for axis, size in enumerate(sizes):
        f = torch.fft.fftfreq(size, dtype=torch.float64).abs()
        s = 1 / (f**beta + 1e-16)
        shape = [size if other == axis else 1 for other in range(len(sizes))]
        gain = gain * (signal * s / (signal**2 * s + noise**2 + 1e-16)).view(shape)
    gain = gain / gain.mean()
    dims = tuple(range(1, len(sizes) + 1))
    want = torch.fft.ifftn(torch.fft.fftn(on_grid(x, sizes), dim=dims) * gain[..., None], dim=dims)
    assert want.imag.abs().max() < 1e-10
    have = transform(x, sea_filters(sizes, signal, noise, beta))
    assert (have - want.real.flatten(1, -2)).abs().max() <= 1e-10 * want.abs().max()


def test_sea_filter_matrices_are_symmetric_and_keep_the_mean_gain():
    for matrix in sea_filters((1, 8, 9), 0.4, 0.6):
        assert (matrix - matrix.T).abs().max() < EXACT
        assert math.isclose(float(matrix.trace()), len(matrix), rel_tol=EXACT)  # the mean of the gains is 1
    assert sea_filters((8,), 0.4, 0.6, dtype=torch.float32)[0].dtype == torch.float32


def test_gain_passes_content_and_stops_noise():
    early, late = wiener_gain(32, 0.05, 0.95), wiener_gain(32, 0.95, 0.05)
    share = [gain[16] / gain[1] for gain in (early, late)]
    assert share[0] < 0.05 < 0.5 < share[1]


def test_circulant_multiplies_the_spectrum():
    gain = wiener_gain(7, 0.5, 0.5)
    x = torch.randn(7, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    assert (circulant(gain) @ x - torch.fft.ifft(torch.fft.fft(x) * gain).real).abs().max() < EXACT * gain.max()


def test_transform_takes_any_leading_sizes():
    x = tokens_on((4, 4)).unsqueeze(1).expand(2, 3, 16, 3)
    assert transform(x, grid_bases((4, 4), keep=0.25)).shape == (2, 3, 4, 3)
