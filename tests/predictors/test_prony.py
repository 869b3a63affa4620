"""Prony against the recurrence fitted with numpy, and on features that are exponentials indeed."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from fouriercache.errors import MethodError, TrajectoryError
from fouriercache.predictors import Banded, Damped, Grams, LowPassed, Newton, Predictor, Prony, Reuse

Features = npt.NDArray[np.float64]
Curve = Callable[[float], Features]

few = settings(deadline=None, max_examples=25)  # a fit at uneven gaps takes some 10 ms

WIDTH = 40
EVEN = ((0, 4, 8, 12), (1, 6, 11, 16, 21), (2, 5, 8))
UNEVEN = ((0, 3, 8, 10), (0, 1, 2, 8, 14), (0, 7, 9, 17), (0, 2, 7))


def as_features(values: object) -> Features:
    return np.asarray(values, dtype=np.float64)


def gram_of(history: Features) -> tuple[tuple[float, ...], ...]:
    """[features, WIDTH], newest first -> the inner products."""
    return tuple(map(tuple, (history @ history.T).tolist()))


def history_of(curve: Curve, computed: tuple[int, ...]) -> Features:
    return np.array([curve(step) for step in reversed(computed)])


def row_of(prony: Prony, history: Features, computed: tuple[int, ...], step: int) -> tuple[float, ...]:
    ((row,),) = prony.table(computed, step, (gram_of(history[: prony.history]),))
    return row


def error_of(prony: Prony, curve: Curve, computed: tuple[int, ...], step: int) -> float:
    """Relative error of the prediction."""
    history = history_of(curve, computed)
    row = np.array(row_of(prony, history, computed, step))
    truth = curve(step)
    return float(np.linalg.norm(row @ history[: len(row)] - truth) / np.linalg.norm(truth))


def directions(seed: int, count: int) -> Features:
    """[count, WIDTH], orthonormal: how much of a curve is in each of its exponentials is then seen best."""
    found, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=(WIDTH, count)))
    return as_features(found.T)


def recur_as_published(history: Features, order: int, gaps: int) -> Features:
    """Fit x_n = a_1 x_{n-1} + ... to the history by least squares, and run it forward: hicache_pp/dmd.py.

    Asks hypothesis for another case where a root is none of an exponential; tests of lowered orders have those.
    """
    rows = range(len(history) - order)
    design = np.concatenate([history[i + 1 : i + 1 + order].T for i in rows])
    scalars, *_ = np.linalg.lstsq(design, np.concatenate([history[i] for i in rows]))
    roots = np.roots([1.0, *-scalars])
    assume(all(abs(np.angle(root)) < 2 * np.pi / 3 and abs(root) > 1e-6 for root in roots))
    known = list(history)
    for _ in range(gaps):
        known.insert(0, scalars @ np.array(known[:order]))
    return as_features(known[0])


@few
@given(
    st.integers(0, 2**16),
    st.sampled_from([1, 2]),
    st.integers(2, 6),
    st.integers(1, 7),
    st.integers(1, 3),
    st.floats(0.1, 0.9),
)
def test_at_even_gaps_it_is_the_published_recurrence(
    seed: int, order: int, count: int, gap: int, gaps: int, noise: float
) -> None:
    assume(count > order)
    chance = np.random.default_rng(seed)
    turn = chance.uniform(0.3, 1.6)
    base = directions(seed, 2)
    history = np.array([np.cos(turn * n) * base[0] + 0.9**n * np.sin(turn * n) * base[1] for n in range(count)])
    history = (history + noise * 0.1 * chance.normal(size=(count, WIDTH)) / WIDTH**0.5)[::-1]
    computed = tuple(range(3, 3 + gap * count, gap))
    row = np.array(
        row_of(Prony(order, history=6, ridge=1e-20, growth=1e9), history, computed, computed[-1] + gap * gaps)
    )
    theirs = recur_as_published(history, order, gaps)
    assert len(row) == order
    ours = row @ history[:order]
    size = float(np.abs(row) @ np.linalg.norm(history[:order], axis=1))
    # inner products lose what is below 1e-16 of a feature's square: 1e-16 times a condition number squared, 1e6 at most
    assert np.linalg.norm(ours - theirs) <= 1e-10 * max(size, 1.0)


@few
@given(
    st.integers(0, 99),
    st.floats(-0.15, 0.02),
    st.floats(0.02, 0.12),
    st.sampled_from(EVEN + UNEVEN),
    st.integers(1, 5),
)
def test_two_decaying_exponentials_are_followed(
    seed: int, slow: float, apart: float, computed: tuple[int, ...], ahead: int
) -> None:
    base = directions(seed, 2)

    def curve(step: float) -> Features:
        return as_features(np.exp(slow * step) * base[0] + np.exp((slow - apart) * step) * base[1])

    assert error_of(Prony(history=5, ridge=1e-14), curve, computed, computed[-1] + ahead) <= 1e-8


@few
@given(
    st.integers(0, 99),
    st.floats(-0.15, 0.02),
    st.floats(0.02, 0.24),  # a third of a circle in the largest gap, 8
    st.sampled_from(EVEN + UNEVEN),
    st.integers(1, 5),
)
def test_damped_oscillation_is_followed(
    seed: int, decay: float, turn: float, computed: tuple[int, ...], ahead: int
) -> None:
    base = directions(seed, 2)

    def curve(step: float) -> Features:
        return as_features(np.exp(decay * step) * (np.cos(turn * step) * base[0] + np.sin(turn * step) * base[1]))

    assert error_of(Prony(history=5, ridge=1e-14), curve, computed, computed[-1] + ahead) <= 1e-8


@few
@given(
    st.integers(0, 99),
    st.floats(-0.15, 0.05),
    st.sampled_from([1, 2]),
    st.sampled_from(EVEN + UNEVEN),
    st.integers(1, 5),
)
def test_single_exponential_is_followed_by_either_order(
    seed: int, rate: float, order: int, computed: tuple[int, ...], ahead: int
) -> None:
    base = directions(seed, 1)

    def curve(step: float) -> Features:
        return as_features(np.exp(rate * step) * base[0])

    assert error_of(Prony(order, ridge=1e-12), curve, computed, computed[-1] + ahead) <= 1e-8


@pytest.mark.parametrize("computed", EVEN + UNEVEN)
def test_straight_line_is_followed(computed: tuple[int, ...]) -> None:
    base = directions(0, 2)

    def curve(step: float) -> Features:
        return as_features(base[0] + 0.1 * step * base[1])

    assert error_of(Prony(), curve, computed, computed[-1] + 3) <= 1e-8


def test_even_gaps_are_the_limit_of_uneven_ones() -> None:
    base = directions(1, 3)

    def curve(step: float) -> Features:
        return as_features(
            np.exp(-0.05 * step) * base[0] + np.exp(-0.02 * step) * base[1] + np.cos(0.05 * step) * base[2]
        )

    def row(gap: int) -> Features:
        computed = (0, 1000, 2000, 2000 + gap)
        history = np.array([curve(step / 250) for step in reversed(computed)])
        return np.array(row_of(Prony(ridge=1e-12), history, computed, 3300))

    assert row(999) == pytest.approx(row(1000), rel=2e-2)
    assert row(1001) == pytest.approx(row(1000), rel=2e-2)
    assert row(999) + row(1001) == pytest.approx(2 * row(1000), rel=1e-3)


def test_two_features_are_continued_as_a_straight_line_and_one_is_reused() -> None:
    history = history_of(lambda step: (step + 1) * directions(0, 1)[0], (0, 4))
    assert row_of(Prony(2), history, (0, 4), 7) == Newton(1).coefficients((0, 4), 7)
    assert row_of(Prony(2), history[:1], (4,), 7) == (1.0,)
    assert row_of(Prony(1), history[:1], (4,), 7) == (1.0,)
    assert row_of(Prony(1), history, (0, 4), 8) == pytest.approx((2.0,))  # it grew by 5, and growth is 2


@pytest.mark.parametrize("computed", [(0, 4, 8, 12), (0, 3, 8, 10)])
@pytest.mark.parametrize("order", [1, 2])
def test_alternating_feature_is_reused(order: int, computed: tuple[int, ...]) -> None:
    base = directions(0, 1)[0]
    history = np.array([base * (-1) ** index for index in range(4)])
    assert row_of(Prony(order), history, computed, computed[-1] + 2) == (1.0,)


def test_order_is_lowered_when_one_of_two_modes_alternates() -> None:
    base = directions(0, 2)
    history = np.array([base[0] * 0.9**index + 0.2 * base[1] * (-1) ** index for index in range(4)])
    row = row_of(Prony(2), history, (0, 4, 8, 12), 14)
    assert len(row) == 1
    assert row == row_of(Prony(1), history, (0, 4, 8, 12), 14)


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
    row = np.array(row_of(Prony(order, growth=1.5), history, computed, step))
    grown = np.linalg.norm(row @ history[: len(row)]) / np.linalg.norm(history[0])
    assert 1 <= grown <= 1.5 * 2.5 * 2
    assert grown < np.exp(0.6 * 4) / 1.4


@few
@given(
    st.integers(0, 2**16),
    st.sets(st.integers(0, 40), min_size=1, max_size=6),
    st.integers(1, 12),
    st.sampled_from([1, 2]),
    st.floats(1, 3),
    st.sampled_from([1e-6, 0.1, 1.0]),
)
def test_scalars_stay_bounded_whatever_the_features(
    seed: int, steps: set[int], ahead: int, order: int, growth: float, noise: float
) -> None:
    computed = tuple(sorted(steps))
    chance = np.random.default_rng(seed)
    history = chance.normal(size=WIDTH) + noise * chance.normal(size=(len(computed), WIDTH))
    prony = Prony(order, history=5, growth=growth)
    row = row_of(prony, history, computed, computed[-1] + ahead)
    gap = ([1] + [after - before for before, after in pairwise(computed)])[-1]
    assert max(map(abs, row)) <= growth * 2.5 * (1 + ahead / gap) * (1 + 1e-9)


def test_each_site_has_the_row_of_its_own_gram() -> None:
    computed, base = (0, 4, 8, 12), directions(0, 2)
    slow = history_of(lambda step: np.exp(-0.02 * step) * base[0], computed)
    fast = history_of(lambda step: np.exp(-0.2 * step) * base[1], computed)
    table = Prony(1).table(computed, 14, (gram_of(slow), gram_of(fast)))
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
        ({"history": 2}, "needs history to be at least 3"),
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
