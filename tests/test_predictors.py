"""Coefficients against the published recursion, written here a second time in the published code's own counting."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from fractions import Fraction
from math import factorial
from typing import Any, TypeVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fouriercache.errors import MethodError, TrajectoryError
from fouriercache.predictors import Predictor, Reuse, Taylor
from fouriercache.schedules import Interval, Table

unhurried = settings(deadline=None)  # the machine may be busy; these tests are about values


Number = TypeVar("Number", float, Fraction)


def predict_as_published(
    feature: Callable[[int], Sequence[Number]],
    computed: Sequence[int],
    num_steps: int,
    order: int,
    first_enhance: int,
) -> dict[int, list[Number]]:
    """TaylorSeer-DiT, taylor_utils/__init__.py, on a feature series: its prediction at every skipped step.

    A list of factors, updated at full steps, i counting down from T - 1. Works on floats and, exactly, on Fractions.
    """
    factors: list[list[Number]] = []
    last_full = num_steps - 1
    predictions: dict[int, list[Number]] = {}
    for i in range(num_steps - 1, -1, -1):
        step = num_steps - 1 - i
        if step in computed:
            d = i - last_full
            new = [list(feature(step))]
            for j in range(order):
                if not (j < len(factors) and i < num_steps - first_enhance + 1):
                    break
                new.append([(a - b) / d for a, b in zip(new[j], factors[j], strict=True)])
            factors = new
            last_full = i
        else:
            x = i - last_full
            terms = [[f * x**j / factorial(j) for f in factor] for j, factor in enumerate(factors)]
            predictions[step] = [sum(parts, start=type(parts[0])(0)) for parts in zip(*terms, strict=True)]
    return predictions


def combine(coefficients: Sequence[float], history: Sequence[Sequence[float]]) -> list[float]:
    return [sum(c * h for c, h in zip(coefficients, channel, strict=False)) for channel in zip(*history, strict=True)]


@st.composite
def trajectories(draw: st.DrawFn) -> tuple[int, tuple[int, ...], int, int]:
    """num_steps, computed steps (published schedule or any table), order, first_enhance."""
    num_steps = draw(st.integers(2, 60))
    first_enhance = draw(st.integers(1, 5))
    if draw(st.booleans()):
        steps = Interval(draw(st.integers(1, 12)), first_enhance).steps(num_steps)
        assert steps is not None
    else:
        steps = Table((0, *sorted(draw(st.sets(st.integers(1, num_steps - 1)))))).computed
    return num_steps, steps, draw(st.integers(0, 6)), first_enhance


@unhurried
@given(trajectories(), st.integers(1, 3), st.integers(0, 2**32))
def test_taylor_is_the_published_recursion_at_every_skipped_step(
    trajectory: tuple[int, tuple[int, ...], int, int], channels: int, seed: int
) -> None:
    num_steps, computed, order, first_enhance = trajectory
    chance = random.Random(seed)
    series = [[chance.gauss(0, 1) for _ in range(channels)] for _ in range(num_steps)]
    taylor = Taylor(order, first_difference=first_enhance - 1)
    published = predict_as_published(series.__getitem__, computed, num_steps, order, first_enhance)
    assert len(published) == num_steps - len(computed)
    for step, expected in published.items():
        so_far = [done for done in computed if done < step]
        coefficients = taylor.coefficients(so_far, step)
        history = [series[done] for done in reversed(so_far)][: len(coefficients)]
        scale = [
            sum(abs(c * h) for c, h in zip(coefficients, channel, strict=True))
            for channel in zip(*history, strict=True)
        ]
        for ours, theirs, size in zip(combine(coefficients, history), expected, scale, strict=True):
            assert abs(ours - theirs) <= 1e-12 * size  # the bound the design sets, on the terms of the sum


@unhurried
@given(trajectories())
def test_each_coefficient_is_right_to_1e_12_of_its_exact_value(
    trajectory: tuple[int, tuple[int, ...], int, int],
) -> None:
    num_steps, computed, order, first_enhance = trajectory
    taylor = Taylor(order, first_difference=first_enhance - 1)

    def unit(step: int) -> list[Fraction]:
        return [Fraction(int(step == done)) for done in computed]  # channel k is 1 at the k-th computed step alone

    for step, exact in predict_as_published(unit, computed, num_steps, order, first_enhance).items():
        so_far = [done for done in computed if done < step]
        coefficients = taylor.coefficients(so_far, step)
        assert len(coefficients) <= taylor.history
        padded = [*coefficients, *[0.0] * (len(computed) - len(coefficients))]
        newest_first = [*reversed(exact[: len(so_far)]), *exact[len(so_far) :]]
        for ours, theirs in zip(padded, newest_first, strict=True):
            assert abs(Fraction(ours) - theirs) <= abs(theirs) / 10**12


@unhurried
@given(trajectories())
def test_coefficients_sum_to_1_so_a_constant_feature_stays(trajectory: tuple[int, tuple[int, ...], int, int]) -> None:
    num_steps, computed, order, first_enhance = trajectory
    for step in set(range(num_steps)) - set(computed):
        coefficients = Taylor(order, first_enhance - 1).coefficients([done for done in computed if done < step], step)
        assert abs(sum(coefficients) - 1) <= 1e-12 * sum(map(abs, coefficients))


@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_linear_feature_at_even_gaps_is_predicted_exactly(order: int) -> None:
    computed = [0, 4, 8, 12, 16, 20]
    coefficients = Taylor(order).coefficients(computed, 22)
    assert sum(c * (3 * step + 1) for c, step in zip(coefficients, reversed(computed), strict=False)) == pytest.approx(
        67
    )


def test_taylor_takes_the_last_gap_for_all_orders() -> None:
    # f_1 = (H0 - H1) / 4 and f_2 = (f_1 - (H1 - H2) / 1) / 4, although the gap before the last was 1
    assert Taylor(2).coefficients([0, 1, 5], 7) == (1 + 2 / 4 + 2 / 16, -2 / 4 - 2 / 16 - 2 / 4, 2 / 4)


def test_order_grows_with_the_computed_steps() -> None:
    taylor = Taylor(3)
    assert [len(taylor.coefficients(range(0, 5 * full, 5), 5 * full)) for full in range(1, 7)] == [1, 2, 3, 4, 4, 4]


def test_no_difference_is_taken_before_the_first_difference_step() -> None:
    taylor = Taylor(2, first_difference=2)
    assert taylor.coefficients([0, 1], 2) == (1.0,)
    assert taylor.coefficients([0, 1, 2], 3) == (2.0, -1.0)
    assert len(taylor.coefficients([0, 1, 2, 5], 6)) == 3


def test_steps_older_than_the_history_do_not_matter() -> None:
    taylor = Taylor(2, first_difference=1)
    assert taylor.coefficients([0, 1, 5, 9, 13], 15) == taylor.coefficients([5, 9, 13], 15)


def test_taylor_of_order_0_reuses() -> None:
    assert Taylor(0).coefficients([0, 3, 6], 8) == Reuse().coefficients([0, 3, 6], 8) == (1.0,)


def test_prediction_of_a_computed_step_is_its_own_feature() -> None:
    assert Taylor(2).coefficients([0, 1, 5], 5) == (1.0, 0.0, 0.0)


def test_history_is_the_number_of_features_read() -> None:
    assert (Reuse().history, Taylor(0).history, Taylor(4).history) == (1, 1, 5)


@pytest.mark.parametrize("predictor", [Reuse(), Taylor(2)])
def test_prediction_before_anything_is_computed_is_refused(predictor: Predictor) -> None:
    with pytest.raises(TrajectoryError, match="before the first step is computed"):
        predictor.table([], 0)


@pytest.mark.parametrize("predictor", [Reuse(), Taylor(2)])
@pytest.mark.parametrize(("computed", "step"), [([0, 5], 4), ([0, 3, 3], 4), ([0, 5, 3], 6)])
def test_prediction_that_does_not_go_forward_is_refused(predictor: Predictor, computed: list[int], step: int) -> None:
    with pytest.raises(TrajectoryError, match="goes forward"):
        predictor.table(computed, step)


@pytest.mark.parametrize("value", [-1, True, 2.0, "2", None])
@pytest.mark.parametrize("field", ["order", "first_difference"])
def test_wrong_order_or_first_difference_is_refused(field: str, value: object) -> None:
    fields: dict[str, Any] = {"order": 2, field: value}
    with pytest.raises(MethodError, match=f"Taylor needs {field} to be") as caught:
        Taylor(**fields)
    assert f"where: Taylor({field}={value!r})" in str(caught.value)
