"""The Fourier extrapolation against numpy's DFT of the window, evaluated outside it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fouriercache.errors import MethodError
from fouriercache.predictors import TemporalFourier
from tests.predictors.series import combine, moments, random_features, summed_size, unhurried


def extrapolate(window: np.ndarray, ahead: float, keep: float) -> float:
    """Sum the kept complex exponentials of numpy's DFT at `ahead` gaps after the first sample."""
    spectrum = np.fft.fft(window)
    count = len(window)
    total = 0j
    for m in range(count):
        frequency = m if 2 * m <= count else m - count
        if abs(frequency) <= int(keep * (count // 2) + 1e-12):
            wave = np.exp(2j * np.pi * frequency * ahead / count)
            # the Nyquist coefficient stands for both +1/2 and -1/2
            total += spectrum[m] * (wave.real if 2 * m == count else wave)
    return float(total.real) / count


@unhurried
@given(st.integers(2, 9), st.integers(1, 6), st.integers(0, 20), st.sampled_from([0.2, 0.5, 1.0]), st.integers(0, 99))
def test_even_window_is_extended_by_its_dft(count: int, gap: int, ahead: int, keep: float, seed: int) -> None:
    computed = tuple(range(0, count * gap, gap))
    step = computed[-1] + ahead
    features = random_features(computed, seed)
    coefficients = TemporalFourier(count, keep).coefficients(computed, step)
    expected = extrapolate(np.array([features[done] for done in computed]), step / gap, keep)
    size = summed_size(coefficients, computed, features.__getitem__) + sum(map(abs, features.values()))
    assert abs(combine(coefficients, computed, features.__getitem__) - expected) <= 1e-12 * size


@unhurried
@given(moments(), st.integers(2, 6), st.sampled_from([0.5, 1.0]), st.integers(0, 99))
def test_uneven_window_is_resampled_linearly_first(
    moment: tuple[int, tuple[int, ...], int], history: int, keep: float, seed: int
) -> None:
    _, computed, step = moment
    features = random_features(computed, seed)
    window = computed[-history:]
    coefficients = TemporalFourier(history, keep).coefficients(computed, step)
    values = [features[done] for done in window]
    if len(window) == 1:
        expected = values[0]
    else:
        gap = (window[-1] - window[0]) / (len(window) - 1)
        even = np.interp(window[0] + gap * np.arange(len(window)), window, values)
        expected = extrapolate(even, (step - window[0]) / gap, keep)
    size = summed_size(coefficients, computed, features.__getitem__) + sum(map(abs, values))
    assert abs(combine(coefficients, computed, features.__getitem__) - expected) <= 1e-12 * size


def test_one_gap_after_the_window_it_returns_the_oldest_feature() -> None:
    assert TemporalFourier(4).coefficients((0, 5, 10, 15), 20) == pytest.approx((0, 0, 0, 1), abs=1e-14)


def test_full_series_passes_through_the_newest_feature() -> None:
    assert TemporalFourier(4).coefficients((0, 5, 10, 15), 15) == pytest.approx((1, 0, 0, 0), abs=1e-14)


def test_lowest_frequency_alone_is_the_mean() -> None:
    assert TemporalFourier(4, keep=0.1).coefficients((0, 5, 10, 15), 17) == pytest.approx((0.25,) * 4)


def test_single_feature_is_reused() -> None:
    assert TemporalFourier(4).coefficients((0,), 3) == (1.0,)


@pytest.mark.parametrize(
    ("fields", "fault"),
    [
        ({"history": 0}, "history to be at least 1"),
        ({"history": 4.0}, "history to be a whole number"),
        ({"keep": 0.0}, "keep to be finite and above 0 and at most 1"),
        ({"keep": 1.1}, "keep to be finite and above 0 and at most 1"),
        ({"keep": "all"}, "keep to be a number"),
    ],
)
def test_wrong_fields_are_refused(fields: dict[str, Any], fault: str) -> None:
    with pytest.raises(MethodError, match=f"TemporalFourier needs {fault}"):
        TemporalFourier(**fields)
