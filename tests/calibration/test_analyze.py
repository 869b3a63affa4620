"""Spectra of features: against torch.fft, on signals whose spectrum is known, and on the tiny DiT's own modules."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import fouriercache as fc
from fouriercache.calibration.analyze import bands_of, coefficients_of, power_of
from fouriercache.calibration.spectra import Analysis, SiteSpectrum, bandwidth_of, bars
from tests.calibration.sets import STEPS, sampler
from tests.tiny import tiny_dit

GRID = fc.TokenGrid(1, 4, 6)
EDGES = (0.3, 0.6)


def dct_by_fft(x: Tensor) -> Tensor:
    """The orthonormal DCT-II along the first axis, by `torch.fft` of the signal and its mirror image."""
    count = len(x)
    mirrored = torch.fft.fft(torch.cat([x, x.flip(0)]).double(), dim=0)[:count]
    angles = -math.pi * torch.arange(count, dtype=torch.float64) / (2 * count)
    turned = torch.polar(torch.ones_like(angles), angles).view([-1] + [1] * (x.ndim - 1))
    found: Tensor = (mirrored * turned).real / math.sqrt(2 * count)
    found[0] /= math.sqrt(2)
    return found


@settings(max_examples=25, deadline=None)
@given(st.integers(2, 40), st.integers(1, 3), st.integers(0, 1000))
def test_temporal_power_is_that_of_torch_fft(steps: int, rows: int, seed: int):
    series = torch.randn(steps, rows, 24, 2, generator=torch.Generator().manual_seed(seed))
    bands = bands_of(24, GRID, EDGES)
    power = power_of(series, bands, 3)
    exact = dct_by_fft(series).square().sum((1, 3))
    for band in range(3):
        torch.testing.assert_close(power[band], exact[:, bands == band].sum(1), rtol=1e-4, atol=1e-4)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 3), st.integers(0, 5))
def test_a_pattern_on_the_grid_has_one_spatial_coefficient(row: int, column: int):
    down = torch.cos(math.pi * row * (torch.arange(4) + 0.5) / 4)
    along = torch.cos(math.pi * column * (torch.arange(6) + 0.5) / 6)
    feature = (down[:, None] * along).reshape(1, 24, 1)
    found = coefficients_of(torch.cat([torch.ones(1, 1, 1), feature], dim=1), fc.TokenGrid(1, 4, 6, start=1))
    power = found.square().flatten() / found.square().sum()
    assert power[row * 6 + column] == pytest.approx(1, abs=1e-5)


def test_features_off_the_grid_stay_as_they_are():
    feature = torch.randn(2, 5, 3, generator=torch.Generator().manual_seed(0))
    assert torch.equal(coefficients_of(feature, GRID), feature)
    assert torch.equal(coefficients_of(feature, None), feature)
    assert bands_of(5, GRID, EDGES).tolist() == [0] * 5


def test_large_features_are_followed_in_some_channels_and_rows():
    feature = torch.arange(4 * 2**14 * 8, dtype=torch.float32).view(4, 2**14, 8)
    assert torch.equal(coefficients_of(feature, None), feature[::2, :, ::8])
    assert coefficients_of(torch.ones(1, 2**16, 3), None).shape == (1, 2**16, 1)


@pytest.mark.parametrize("k", [0, 1, 4, 11])
def test_a_cosine_has_the_bandwidth_above_it_and_the_interval_of_the_sampling_theorem(k: int):
    wave = torch.cos(math.pi * k * (torch.arange(12) + 0.5) / 12)
    spectrum = SiteSpectrum.of("a", "mlp", "0", power_of(wave.view(12, 1, 1, 1), torch.zeros(1), 1).tolist(), 0.1)
    assert spectrum.temporal[k] == pytest.approx(1)
    assert spectrum.bandwidth == pytest.approx((k + 1) / 24)
    assert spectrum.interval == 12 // (k + 1)
    assert spectrum.band_bandwidths == (spectrum.bandwidth,)


def test_a_site_that_is_always_0_may_be_kept_for_ever():
    spectrum = SiteSpectrum.of("a", "mlp", "0", [[0.0] * 8, [0.0] * 8], 0.1)
    assert spectrum.bandwidth == 0
    assert spectrum.interval == 8
    assert spectrum.spatial == (0, 0)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=2, max_size=20), st.floats(0.01, 1), st.floats(0.01, 1))
def test_what_lies_above_the_bandwidth_is_within_the_tolerance(power: list[float], one: float, other: float):
    tight, loose = sorted((one, other))
    found = bandwidth_of(power, tight)
    assert bandwidth_of(power, loose) <= found
    first = round(found * 2 * len(power))
    assert sum(power[first:]) <= tight**2 * sum(power) * (1 + 1e-9) + 1e-300
    if first:
        assert sum(power[first - 1 :]) > tight**2 * sum(power) * (1 - 1e-9)


def test_bars_fall_by_one_for_each_factor_of_ten():
    assert bars([1.0, 0.1, 0.01, 0.0]) == "█▇▆ "
    assert len(bars([1.0] * 50)) <= 25


@pytest.fixture(scope="module")
def analysis() -> Analysis:
    return fc.analyze(tiny_dit(), num_steps=STEPS, sample=sampler(batches=2), edges=EDGES, progress=False)


def test_analyzes_every_site_as_its_module_computes_it(analysis: Analysis):
    model = tiny_dit()
    seen: list[Tensor] = []
    hook = model.transformer_blocks[1].attn1.register_forward_hook(lambda *call: seen.append(call[2].detach()))
    sampler(batches=2)(model)
    hook.remove()
    whole = sum(dct_by_fft(torch.stack(part)).square().sum((1, 2, 3)) for part in (seen[:STEPS], seen[STEPS:]))
    assert isinstance(whole, Tensor)
    site = analysis.sites[2]
    assert (site.kind, len(analysis.sites), analysis.rows) == ("attention", 4, 4)
    assert site.temporal == pytest.approx((whole / whole.sum()).tolist(), rel=1e-3, abs=1e-9)
    assert sum(site.spatial) == pytest.approx(1)
    assert len(analysis.timesteps) == len(analysis.frequencies) == STEPS
    assert analysis.frequencies[1] == 1 / (2 * STEPS)


def test_an_optimised_module_is_analyzed_like_its_model(analysis: Analysis):
    fast = fc.optimize(tiny_dit(), fc.FORA(3), num_steps=STEPS)
    assert fc.analyze(fast, num_steps=STEPS, sample=sampler(batches=2), edges=EDGES, progress=False) == analysis


def test_the_table_has_a_line_for_each_site(analysis: Analysis):
    head, *lines = analysis.table().splitlines()
    assert [line.split()[0] for line in lines] == list(analysis.intervals)
    assert head.split()[:4] == ["site", "kind", "bandwidth", "interval"]
    assert f"{analysis.sites[0].bandwidth:.3f}" in lines[0]


def test_a_schedule_by_bandwidth_computes_no_more_than_equal_intervals():
    powers = [[[1.0] * (k + 1) + [0.0] * (39 - k)] for k in (1, 3, 7)]
    sites = tuple(SiteSpectrum.of(f"{k}", "mlp", "0", power, 0.1) for k, power in enumerate(powers))
    found = Analysis("branch", 40, (), 0.1, (0.0,) * 40, 1, sites)
    assert [site.interval for site in sites] == [20, 10, 5]
    for interval in (1, 3, 5, 7.5):
        schedule = found.schedule(interval)
        assert schedule.share(40) <= (1 + 39 // interval) / 40
    assert found.schedule(5).intervals == (13, 7, 3)  # 4 + 6 + 14 values of the 24 allowed
    with pytest.raises(fc.MethodError, match="at least 1"):
        found.schedule(0)


def test_refuses_a_sampler_of_another_length():
    with pytest.raises(fc.CalibrationError, match="took 10 steps, and num_steps says 11"):
        fc.analyze(tiny_dit(), num_steps=11, sample=sampler(), progress=False)
    with pytest.raises(fc.TrajectoryError, match="goes on after its 9 steps"):
        fc.analyze(tiny_dit(), num_steps=9, sample=sampler(), progress=False)


@pytest.mark.parametrize(
    ("changed", "error", "words"),
    [
        ({"num_steps": 1}, fc.MethodError, "at least 2"),
        ({"edges": (0.6, 0.3)}, fc.MethodError, "ascending"),
        ({"tolerance": 0.0}, fc.MethodError, "above 0"),
        ({"site": "layer"}, fc.MethodError, "'stack'"),
        ({"sample": None}, fc.CalibrationError, "nothing says how to sample"),
        ({"sample": lambda _: torch.zeros(1, 2)}, fc.CalibrationError, "never called the denoiser"),
    ],
)
def test_refuses_what_cannot_be_analyzed(changed: dict[str, Any], error: type[Exception], words: str):
    arguments: dict[str, Any] = {"num_steps": STEPS, "sample": sampler(), "progress": False, **changed}
    with pytest.raises(error, match=words):
        fc.analyze(tiny_dit(), **arguments)
