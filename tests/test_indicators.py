"""Indicators: noise levels against the schedulers' formulas, filters against a Fourier transform of the whole grid."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import fouriercache as fc
from fouriercache.indicators import DDPM, BandLimited, Filtered, Flow, Indicator, Latents, Modulated, TimestepEmbedding

TABLE = [0.99, 0.8, 0.5, 0.1]
ALL: list[Indicator] = [Modulated(), Latents(), TimestepEmbedding(), Filtered(), BandLimited()]


def apply(matrices: tuple[torch.Tensor, ...], x: torch.Tensor) -> torch.Tensor:
    for axis, matrix in enumerate(matrices):
        x = torch.movedim(torch.tensordot(matrix, x, dims=([1], [axis])), 0, axis)
    return x


def sea_filtered(x: torch.Tensor, sigma: float, beta: float) -> torch.Tensor:
    """SeaCache's filter as the paper has it: one complex transform of the whole grid."""
    a, b = 1 - sigma, sigma
    gain = torch.ones(x.shape, dtype=torch.float64)
    for axis, size in enumerate(x.shape):
        power = 1 / (torch.fft.fftfreq(size, dtype=torch.float64).abs() ** beta + 1e-16)
        one = a * power / (a * a * power + b * b + 1e-16)
        gain = gain * one.reshape([-1 if other == axis else 1 for other in range(x.ndim)])
    found: torch.Tensor = torch.fft.ifftn(torch.fft.fftn(x) * gain / gain.mean()).real
    return found


@given(st.lists(st.integers(2, 7), min_size=2, max_size=3), st.floats(0.01, 0.99), st.sampled_from([2.0, 3.0]))
def test_the_filter_is_the_published_one_on_grids_of_any_size(sizes, sigma, beta):
    x = torch.randn(sizes, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    have = apply(Filtered(beta, Flow(scale=1.0)).filters(sizes, sigma), x)
    torch.testing.assert_close(have, sea_filtered(x, sigma, beta), rtol=1e-9, atol=1e-9)


def test_a_step_full_of_noise_counts_low_frequencies_alone_and_a_clean_one_all_alike():
    x = torch.eye(8, dtype=torch.float64)[0]
    noisy, clean = (torch.fft.fft(apply(Filtered().filters([8], t), x)).abs() for t in (0.999, 0.001))
    assert noisy[4] < 1e-2 * noisy[0]
    assert clean[4] == pytest.approx(float(clean[0]), rel=1e-3)


def test_a_band_limit_projects_on_the_lowest_frequencies():
    (matrix,) = BandLimited(0.5).filters([8], 0.3)
    torch.testing.assert_close(matrix @ matrix, matrix)
    spectrum = torch.fft.fft(matrix @ torch.eye(8, dtype=torch.float64)[0]).abs()
    assert [round(float(value), 9) for value in spectrum] == [1, 1, 1, 0, 0, 0, 1, 1]


@pytest.mark.parametrize("indicator", ALL, ids=lambda part: part.name)
def test_every_indicator_has_the_members_of_its_question(indicator: Indicator):
    assert isinstance(indicator, Indicator)
    assert bool(indicator.filters([4, 5], 0.5)) == indicator.is_filtered
    assert eval(repr(indicator), vars(fc)) == indicator
    assert hash(indicator) == hash(eval(repr(indicator), vars(fc)))


@pytest.mark.parametrize(("timestep", "scale"), [(0.25, None), (250.0, None), (250.0, 1000.0), (0.25, 1.0), (2.5, 10)])
def test_flow_reads_sigma_off_the_timestep(timestep: float, scale: float | None):
    assert Flow(scale).levels(timestep) == pytest.approx((0.75, 0.25))


def test_neither_signal_nor_noise_is_ever_nothing():
    assert Flow().levels(0.0) == pytest.approx((1 - 1e-6, 1e-6), rel=1e-9)
    assert Flow().levels(1.0) == pytest.approx((1e-6, 1 - 1e-6), rel=1e-9)
    assert DDPM([1.0, 0.0]).levels(1.0) == pytest.approx((1e-3, np.sqrt(1 - 1e-6)))


def test_ddpm_reads_its_table_and_the_line_between():
    for timestep, alpha in [(0, 0.99), (3, 0.1), (1.5, 0.65)]:
        assert DDPM(TABLE).levels(timestep) == pytest.approx((alpha**0.5, (1 - alpha) ** 0.5))
    assert DDPM([0.5]).levels(0) == pytest.approx((0.5**0.5, 0.5**0.5))


def test_ddpm_takes_a_schedulers_own_table():
    from diffusers.schedulers.scheduling_ddim import DDIMScheduler

    table = DDIMScheduler().alphas_cumprod.tolist()
    assert DDPM(table).levels(999)[0] == pytest.approx(table[999] ** 0.5)


@pytest.mark.parametrize("timestep", [-0.1, 1000.5, float("nan"), float("inf")])
def test_flow_refuses_a_timestep_that_is_no_noise_level(timestep: float):
    with pytest.raises(fc.TrajectoryError, match=r"(?s)no noise level of a flow model.*Flow\(scale=\)"):
        Flow().levels(timestep)


@pytest.mark.parametrize("timestep", [-1, 3.5, float("nan"), 999])
def test_ddpm_refuses_a_timestep_outside_its_table(timestep: float):
    with pytest.raises(fc.TrajectoryError, match=r"(?s)not in the table.*timesteps 0 to 3.*alphas_cumprod"):
        DDPM(TABLE).levels(timestep)


@pytest.mark.parametrize(
    ("build", "fault"),
    [
        (lambda: Flow(0.0), "scale to be finite and above 0"),
        (lambda: DDPM([]), "needs a list of alphas_cumprod"),
        (lambda: DDPM(0.5), "needs a list of alphas_cumprod"),  # type: ignore[arg-type]
        (lambda: DDPM([0.5, 1.1]), r"alphas_cumprod\[1\] to be finite and at least 0.0 and at most 1.0"),
        (lambda: Filtered(beta=0.0), "beta to be finite and above 0"),
        (lambda: Filtered(noise=0.3), "needs to know the noise"),  # type: ignore[arg-type]
        (lambda: Filtered(source="timestep"), "does not know source"),  # type: ignore[arg-type]
        (lambda: BandLimited(0.0), "edge to be finite and above 0"),
        (lambda: BandLimited(1.5), "edge to be finite and above 0.0 and at most 1.0"),
        (lambda: BandLimited(0.5, "blocks"), "does not know source"),  # type: ignore[arg-type]
    ],
)
def test_fields_that_make_no_sense_are_refused(build: Any, fault: str):
    with pytest.raises(fc.MethodError, match=fault):
        build()
