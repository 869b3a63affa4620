"""Hermite's scalars against FreqCa's published formula, in its own counting, and the direction it predicts in."""

from __future__ import annotations

from math import factorial
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fouriercache.errors import MethodError
from fouriercache.predictors import Hermite, Reuse, Taylor
from tests.predictors.series import combine, moments, random_features, summed_size, unhurried


def predict_as_published(
    features: dict[int, float], computed: tuple[int, ...], step: int, order: int, sigma: float, first_enhance: int
) -> float:
    """FreqCa, cache_utils.py: derivative_approximation at full steps, then hermite_formula.

    Steps count up there, with both the gap of the differences and the distance taken old minus new.
    """
    factors: dict[int, float] = {}
    for index, done in enumerate(computed):
        updated = {0: features[done]}
        for j in range(order):
            if factors.get(j) is None or not done > first_enhance - 2:
                break
            updated[j + 1] = (updated[j] - factors[j]) / (computed[index - 1] - done)
        factors = updated
    distance = computed[-1] - step
    total = 0.0
    for j, factor in factors.items():
        hermite = np.polynomial.hermite.hermval(distance * sigma, [0.0] * j + [1.0])
        total += factor * float(hermite) / factorial(j) * sigma**j
    return total


@unhurried
@given(moments(), st.integers(0, 4), st.floats(0.1, 1.5), st.integers(1, 4), st.integers(0, 2**32))
def test_hermite_is_the_published_formula(
    moment: tuple[int, tuple[int, ...], int], order: int, sigma: float, first_enhance: int, seed: int
) -> None:
    _, computed, step = moment
    features = random_features(computed, seed)
    published = predict_as_published(features, computed, step, order, sigma, first_enhance)
    hermite = Hermite(order, sigma, first_difference=first_enhance - 1)
    coefficients = hermite.coefficients(computed, step)
    assert len(coefficients) <= hermite.history
    size = summed_size(coefficients, computed, features.__getitem__)
    # the published sum over factors has larger terms than ours over features: its own rounding is the larger one
    factor_size = sum(map(abs, features.values())) * (1 + 2 * sigma * 60) ** (2 * order)
    assert abs(combine(coefficients, computed, features.__getitem__) - published) <= 1e-12 * size + 1e-16 * factor_size


@pytest.mark.parametrize("slope", [3.0, -3.0])
@pytest.mark.parametrize("step", [9, 10, 11])
def test_linear_feature_is_followed_in_its_own_direction(slope: float, step: int) -> None:
    def feature(at: int) -> float:
        return slope * at

    computed = (0, 4, 8)
    moved = combine(Hermite(2, 0.5).coefficients(computed, step), computed, feature) - feature(8)
    assert moved == pytest.approx(slope * (step - 8) / 2)  # 2 sigma^2 = 1/2 of Taylor's way


def test_sigma_of_1_over_root_2_keeps_the_slope() -> None:
    assert Hermite(1, 0.5**0.5).coefficients((0, 4), 7) == pytest.approx(Taylor(1).coefficients((0, 4), 7))


def test_order_2_is_the_formula_of_freqca() -> None:
    # f_1 * 1.0082 k + f_2 * 0.25205 * (2.0164 k^2 - 2), with f of even gaps of 3
    k, d = 2, 3
    first, second = 2 * 0.71**2 * k, 0.71**2 / 2 * (4 * 0.71**2 * k**2 - 2)
    expected = (1 + first / d + second / d**2, -first / d - 2 * second / d**2, second / d**2)
    assert Hermite(2, 0.71).coefficients((0, 3, 6), 8) == pytest.approx(expected, rel=1e-14)


def test_order_0_reuses_the_newest_feature() -> None:
    assert Hermite(0).coefficients((0, 3), 5) == Reuse().coefficients((0, 3), 5)


@unhurried
@given(moments(), st.integers(0, 4), st.floats(0.1, 1.5))
def test_constant_feature_stays_as_it_is(moment: tuple[int, tuple[int, ...], int], order: int, sigma: float) -> None:
    _, computed, step = moment
    coefficients = Hermite(order, sigma).coefficients(computed, step)
    assert abs(sum(coefficients) - 1) <= 1e-12 * sum(map(abs, coefficients))


@pytest.mark.parametrize(
    ("fields", "fault"),
    [
        ({"order": -1}, "order to be at least 0"),
        ({"order": 2.0}, "order to be a whole number"),
        ({"order": 2, "sigma": 0}, "sigma to be finite and above 0"),
        ({"order": 2, "sigma": float("nan")}, "sigma to be finite and above 0"),
        ({"order": 2, "sigma": float("inf")}, "sigma to be finite and above 0"),
        ({"order": 2, "sigma": "0.5"}, "sigma to be a number"),
        ({"order": 2, "sigma": True}, "sigma to be a number"),
        ({"order": 2, "first_difference": -1}, "first_difference to be at least 0"),
    ],
)
def test_wrong_fields_are_refused(fields: dict[str, Any], fault: str) -> None:
    with pytest.raises(MethodError, match=f"Hermite needs {fault}"):
        Hermite(**fields)
