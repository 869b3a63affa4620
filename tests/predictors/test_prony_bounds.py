"""What keeps Prony tame: too few features, roots that the gaps cannot tell, growth, and wrong arguments."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fouriercache.errors import MethodError, TrajectoryError
from fouriercache.predictors import Banded, Damped, Grams, LowPassed, Newton, Predictor, Prony, Reuse
from tests.predictors.snapshots import WIDTH, Features, as_features, directions, gram_of, history_of, row_of

few = settings(deadline=None, max_examples=25)  # a fit at uneven gaps takes some 10 ms


@pytest.mark.parametrize(("order", "constant", "degree"), [(1, False, 0), (1, True, 1), (2, False, 1), (2, True, 2)])
def test_too_few_features_are_continued_as_a_polynomial(order: int, constant: bool, degree: int) -> None:
    computed = (0, 4, 9)
    history = history_of(lambda step: (step + 1) * directions(0, 1)[0], computed)
    prony = Prony(order, constant=constant)
    for count in range(1, degree + 2):
        row = row_of(prony, history[-count:], computed[:count], 12)
        assert row == Newton(degree).coefficients(computed[:count], 12)


@pytest.mark.parametrize("computed", [(0, 4, 8, 12), (0, 3, 8, 10)])
@pytest.mark.parametrize("order", [1, 2])
def test_alternating_feature_is_reused(order: int, computed: tuple[int, ...]) -> None:
    base = directions(0, 1)[0]
    history = np.array([base * (-1) ** index for index in range(4)])
    for constant in (True, False):
        assert row_of(Prony(order, constant=constant), history, computed, computed[-1] + 2) == (1.0,)


def test_order_is_lowered_when_one_of_two_modes_alternates() -> None:
    base = directions(0, 2)
    history = np.array([base[0] * 0.9**index + 0.2 * base[1] * (-1) ** index for index in range(4)])
    row = row_of(Prony(2, constant=False), history, (0, 4, 8, 12), 14)
    assert len(row) == 1
    assert row == row_of(Prony(1, constant=False), history, (0, 4, 8, 12), 14)


def test_feature_that_is_zero_is_reused() -> None:
    assert row_of(Prony(), np.zeros((4, WIDTH)), (0, 4, 8, 12), 14) == (1.0,)


@pytest.mark.parametrize("computed", [(0, 4, 8, 12), (0, 3, 8, 10)])
@pytest.mark.parametrize("order", [1, 2])
def test_growth_is_bounded(order: int, computed: tuple[int, ...]) -> None:
    base = directions(0, 1)[0]

    def curve(step: float) -> Features:
        return as_features(np.exp(0.6 * step) * base)

    history = history_of(curve, computed)
    step = computed[-1] + 4
    row = np.array(row_of(Prony(order, growth=1.5, constant=False), history, computed, step))
    grown = np.linalg.norm(row @ history[: len(row)]) / np.linalg.norm(history[0])
    assert 1 <= grown <= 1.5 * 2.5 * 2
    assert grown < np.exp(0.6 * 4) / 1.4


@few
@given(
    st.integers(0, 2**16),
    st.sets(st.integers(0, 40), min_size=1, max_size=6),
    st.integers(1, 12),
    st.sampled_from([1, 2]),
    st.booleans(),
    st.floats(1, 3),
    st.sampled_from([1e-6, 0.1, 1.0]),
)
def test_scalars_stay_bounded_whatever_the_features(
    seed: int, steps: set[int], ahead: int, order: int, constant: bool, growth: float, noise: float
) -> None:
    computed = tuple(sorted(steps))
    chance = np.random.default_rng(seed)
    history = chance.normal(size=WIDTH) + noise * chance.normal(size=(len(computed), WIDTH))
    prony = Prony(order, history=5, growth=growth, constant=constant)
    row = row_of(prony, history, computed, computed[-1] + ahead)
    gaps = [after - before for before, after in pairwise(computed)][-order:] or [1]
    reach = (ahead + sum(gaps)) / min(gaps)
    assert max(map(abs, row)) <= 2.5 * growth**3 * (1 + reach) ** (order + constant - 1)


def test_each_site_has_the_row_of_its_own_gram() -> None:
    computed, base = (0, 4, 8, 12), directions(0, 2)
    slow = history_of(lambda step: np.exp(-0.02 * step) * base[0], computed)
    fast = history_of(lambda step: np.exp(-0.2 * step) * base[1], computed)
    table = Prony(1, constant=False).table(computed, 14, (gram_of(slow), gram_of(fast)))
    assert [row for (row,) in table] == [pytest.approx((np.exp(-0.04),)), pytest.approx((np.exp(-0.4),))]
    assert (Prony().per_site, Prony().needs_gram, Prony().edges) == (True, True, ())


def test_scale_of_the_features_does_not_matter() -> None:
    computed = (0, 3, 8, 10)
    base = directions(3, 3)
    history = history_of(lambda step: np.exp(-0.05 * step) * base[0] + base[1] + 0.02 * step**2 * base[2], computed)
    rows = [row_of(Prony(), scale * history, computed, 13) for scale in (1e-3, 1.0, 1e3)]
    assert rows[0] == pytest.approx(rows[1], rel=1e-6)
    assert rows[2] == pytest.approx(rows[1], rel=1e-6)


@pytest.mark.parametrize(
    ("grams", "fault"),
    [
        ((), "and got none"),
        ((((1.0, 0.5), (0.5, 1.0)),), "Gram matrix of site 0 is smaller than the 3 features"),
        ((((1.0,) * 3, (1.0,) * 3, (1.0, float("nan"), 1.0)),), "site 0 have inner products that are not finite"),
    ],
)
def test_missing_or_wrong_gram_matrices_are_refused(grams: Grams, fault: str) -> None:
    with pytest.raises(TrajectoryError, match=fault):
        Prony().table((0, 4, 8), 9, grams)


@pytest.mark.parametrize(("computed", "step"), [([], 0), ([0, 5], 4), ([0, 3, 3], 4)])
def test_wrong_target_is_refused(computed: list[int], step: int) -> None:
    with pytest.raises(TrajectoryError):
        Prony().table(computed, step, (((1.0,) * 4,) * 4,))


@pytest.mark.parametrize(
    ("fields", "fault"),
    [
        ({"order": 0}, "needs order to be at least 1"),
        ({"order": 2.0}, "needs order to be a whole number"),
        ({"order": 3}, "does not know order 3"),
        ({"history": 3}, "needs history to be at least 4"),
        ({"history": 2, "constant": False}, "needs history to be at least 3"),
        ({"constant": None}, "does not know constant None"),
        ({"ridge": 0}, "needs ridge to be finite and above 0"),
        ({"growth": 0.5}, "needs growth to be finite and at least 1"),
    ],
)
def test_wrong_fields_are_refused(fields: dict[str, Any], fault: str) -> None:
    with pytest.raises(MethodError, match=f"Prony {fault}"):
        Prony(**fields)


@pytest.mark.parametrize(
    "build",
    [lambda part: Banded((0.2,), (Reuse(), part)), lambda part: LowPassed(part, 0.2), lambda part: Damped(part, 0.2)],
    ids=["Banded", "LowPassed", "Damped"],
)
def test_predictor_that_reads_gram_matrices_is_refused_as_a_part(build: Callable[[Predictor], Predictor]) -> None:
    with pytest.raises(MethodError, match="cannot hold a predictor that asks for Gram matrices"):
        build(Prony())
