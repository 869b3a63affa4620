"""Newton's scalars against divided differences, and against polynomials, exactly."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from itertools import accumulate
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fouriercache.errors import MethodError, TrajectoryError
from fouriercache.predictors import Newton, Reuse, Taylor
from tests.predictors.series import moments, unhurried


def interpolate(at: Fraction, places: Sequence[Fraction], values: Sequence[Fraction]) -> Fraction:
    """Newton's form with its table of divided differences, exactly."""
    column = list(values)
    tops = [column[0]]
    for width in range(1, len(places)):
        column = [(column[i + 1] - column[i]) / (places[i + width] - places[i]) for i in range(len(places) - width)]
        tops.append(column[0])
    total, product = Fraction(0), Fraction(1)
    for top, place in zip(tops, places, strict=True):
        total += top * product
        product *= at - place
    return total


@unhurried
@given(moments(), st.integers(0, 6), st.booleans(), st.randoms(use_true_random=False))
def test_each_coefficient_is_that_of_divided_differences(
    moment: tuple[int, tuple[int, ...], int], order: int, has_times: bool, chance: Any
) -> None:
    num_steps, computed, step = moment
    gaps = [chance.uniform(0.01, 2) for _ in range(num_steps)]
    times = tuple(accumulate(gaps, initial=-8.0)) if has_times else ()
    newton = Newton(order, times)
    coefficients = newton.coefficients(computed, step)
    recent = computed[-newton.history :]
    assert len(coefficients) == len(recent)
    places = [Fraction(times[done]) if times else Fraction(done) for done in recent]
    at = Fraction(times[step]) if times else Fraction(step)
    for age, ours in enumerate(coefficients):
        unit = [Fraction(int(index == len(recent) - 1 - age)) for index in range(len(recent))]
        exact = interpolate(at, places, unit)
        assert abs(Fraction(ours) - exact) <= abs(exact) / 10**12


@unhurried
@given(moments(), st.integers(0, 4))
def test_polynomial_of_its_order_is_predicted_exactly_at_uneven_gaps(
    moment: tuple[int, tuple[int, ...], int], order: int
) -> None:
    _, computed, step = moment
    coefficients = Newton(order).coefficients(computed, step)
    degree = len(coefficients) - 1
    terms = [c * (done - 7) ** degree for c, done in zip(coefficients, reversed(computed), strict=False)]
    assert abs(sum(terms) - (step - 7) ** degree) <= 1e-12 * (sum(map(abs, terms)) + 1)


def test_order_1_at_any_gap_is_taylor_of_order_1() -> None:
    assert Newton(1).coefficients((0, 1, 6), 8) == pytest.approx(Taylor(1).coefficients((0, 1, 6), 8), rel=1e-15)


def test_order_0_reuses_the_newest_feature() -> None:
    assert Newton(0).coefficients((0, 3), 5) == Reuse().coefficients((0, 3), 5)


def test_prediction_of_a_computed_step_is_its_own_feature() -> None:
    assert Newton(2).coefficients((0, 1, 5), 5) == (1.0, 0.0, 0.0)


def test_times_may_rise_or_fall() -> None:
    rising = (0.0, 1.0, 3.0, 7.0, 8.0)
    falling = tuple(-time for time in rising)
    assert Newton(2, rising).coefficients((0, 1, 3), 4) == Newton(2, falling).coefficients((0, 1, 3), 4)


def test_scaled_times_give_the_same_prediction() -> None:
    times = tuple(float(2 * step - 30) for step in range(20))
    assert Newton(2, times).coefficients((0, 3, 9), 12) == Newton(2).coefficients((0, 3, 9), 12)


def test_step_without_a_time_is_refused() -> None:
    with pytest.raises(TrajectoryError, match="Step 3 has no position: times has 3"):
        Newton(1, (0.0, 1.0, 2.0)).coefficients((0, 1), 3)


@pytest.mark.parametrize("order", [-1, 1.0, True, None])
def test_wrong_order_is_refused(order: Any) -> None:
    with pytest.raises(MethodError, match="Newton needs order to be"):
        Newton(order)


@pytest.mark.parametrize("times", [[0.0, 1.0], (0, 1), (0.0, float("nan")), (0.0, float("inf")), None])
def test_times_that_are_no_finite_floats_are_refused(times: Any) -> None:
    with pytest.raises(MethodError, match="Newton needs times to be a tuple of finite floats"):
        Newton(1, times)


@pytest.mark.parametrize("times", [(0.0, 0.0), (0.0, 1.0, 0.5), (3.0, 2.0, 2.0)])
def test_times_that_turn_or_stand_still_are_refused(times: tuple[float, ...]) -> None:
    with pytest.raises(MethodError, match="rise strictly or fall strictly"):
        Newton(1, times)
