"""Prony against the recurrence fitted with numpy, and on features that are exponentials indeed."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from fouriercache.predictors import Prony
from tests.predictors.snapshots import WIDTH, Curve, Features, as_features, directions, history_of, row_of

few = settings(deadline=None, max_examples=25)  # a fit at uneven gaps takes some 10 ms

EVEN = ((0, 4, 8, 12), (1, 6, 11, 16, 21), (2, 5, 8, 11))
UNEVEN = ((0, 3, 8, 10), (0, 1, 2, 8, 14), (0, 7, 9, 17), (0, 2, 7, 13))


def error_of(prony: Prony, curve: Curve, computed: tuple[int, ...], step: int) -> float:
    """Relative error of the prediction."""
    history = history_of(curve, computed)
    row = np.array(row_of(prony, history, computed, step))
    truth = curve(step)
    return float(np.linalg.norm(row @ history[: len(row)] - truth) / np.linalg.norm(truth))


def recur_as_published(history: Features, order: int, gaps: int, constant: bool) -> Features:
    """Fit x_n = a_1 x_{n-1} + ... to the history by least squares, and run it forward: hicache_pp/dmd.py.

    With a constant, x are the differences, which are summed up again. Asks hypothesis for another case where a root is
    none of an exponential; tests of lowered orders have those.
    """
    known = list(history[:-1] - history[1:] if constant else history)
    design = np.concatenate([np.array(known[i + 1 : i + 1 + order]).T for i in range(len(known) - order)])
    scalars, *_ = np.linalg.lstsq(design, np.concatenate(known[: len(known) - order]))
    roots = np.roots([1.0, *-scalars])
    assume(all(abs(np.angle(root)) < 2 * np.pi / 3 and abs(root) > 0.02 for root in roots))
    for _ in range(gaps):
        known.insert(0, scalars @ np.array(known[:order]))
    return as_features(history[0] + sum(known[:gaps]) if constant else known[0])


@few
@given(
    st.integers(0, 2**16),
    st.sampled_from([1, 2]),
    st.booleans(),
    st.integers(3, 6),
    st.integers(1, 7),
    st.integers(1, 3),
    st.floats(0.1, 0.9),
)
def test_at_even_gaps_it_is_the_published_recurrence(
    seed: int, order: int, constant: bool, count: int, gap: int, gaps: int, noise: float
) -> None:
    assume(count > order + constant)
    chance = np.random.default_rng(seed)
    turn = chance.uniform(0.3, 1.6)
    base = directions(seed, 2)
    history = np.array([np.cos(turn * n) * base[0] + 0.9**n * np.sin(turn * n) * base[1] for n in range(count)])
    history = (history + noise * 0.1 * chance.normal(size=(count, WIDTH)) / WIDTH**0.5)[::-1]
    computed = tuple(range(3, 3 + gap * count, gap))
    theirs = recur_as_published(history, order, gaps, constant)
    prony = Prony(order, history=6, ridge=1e-20, growth=1e9, constant=constant)
    row = np.array(row_of(prony, history, computed, computed[-1] + gap * gaps))
    assert len(row) == order + constant
    ours = row @ history[: len(row)]
    size = float(np.abs(row) @ np.linalg.norm(history[: len(row)], axis=1))
    # inner products lose what is below 1e-16 of a feature's square: 1e-16 times a condition number squared, 1e6 at most
    assert np.linalg.norm(ours - theirs) <= 1e-10 * max(size, 1.0)


@few
@given(
    st.integers(0, 99),
    st.booleans(),
    st.floats(-0.15, -0.02),
    st.floats(0.04, 0.12),
    st.sampled_from(EVEN + UNEVEN),
    st.integers(1, 5),
)
def test_two_exponentials_are_followed(
    seed: int, constant: bool, slow: float, apart: float, computed: tuple[int, ...], ahead: int
) -> None:
    base = directions(seed, 3)

    def curve(step: float) -> Features:
        return as_features(np.exp(slow * step) * base[0] + np.exp((slow - apart) * step) * base[1] + constant * base[2])

    assert error_of(Prony(history=5, ridge=1e-14, constant=constant), curve, computed, computed[-1] + ahead) <= 1e-8


@few
@given(
    st.integers(0, 99),
    st.booleans(),
    st.floats(-0.15, 0.02),
    st.floats(0.02, 0.24),  # a third of a circle in the largest gap, 8
    st.sampled_from(EVEN + UNEVEN),
    st.integers(1, 5),
)
def test_damped_oscillation_is_followed(
    seed: int, constant: bool, decay: float, turn: float, computed: tuple[int, ...], ahead: int
) -> None:
    base = directions(seed, 3)

    def curve(step: float) -> Features:
        wave = np.cos(turn * step) * base[0] + np.sin(turn * step) * base[1]
        return as_features(np.exp(decay * step) * wave + constant * base[2])

    assert error_of(Prony(history=5, ridge=1e-14, constant=constant), curve, computed, computed[-1] + ahead) <= 1e-8


@few
@given(
    st.integers(0, 99),
    st.booleans(),
    st.floats(-0.15, 0.05),
    st.sampled_from([1, 2]),
    st.sampled_from(EVEN + UNEVEN),
    st.integers(1, 5),
)
def test_single_exponential_is_followed_by_either_order(
    seed: int, constant: bool, rate: float, order: int, computed: tuple[int, ...], ahead: int
) -> None:
    base = directions(seed, 2)

    def curve(step: float) -> Features:
        return as_features(np.exp(rate * step) * base[0] + constant * base[1])

    # inner products lose what is below 1e-16 of a feature's square, so of a change below 1e-8 of the feature only that
    # it is small is known: such a change may be reused, doubled at each of a few steps, but no more
    assert error_of(Prony(order, ridge=1e-12, constant=constant), curve, computed, computed[-1] + ahead) <= 1e-7


@pytest.mark.parametrize("computed", EVEN + UNEVEN)
@pytest.mark.parametrize(("order", "constant", "degree"), [(1, True, 1), (2, False, 1), (2, True, 2)])
def test_polynomial_at_the_limit_of_slow_exponentials_is_followed(
    computed: tuple[int, ...], order: int, constant: bool, degree: int
) -> None:
    base = directions(0, 3)

    def curve(step: float) -> Features:
        return as_features(base[0] + 0.1 * step * base[1] + (degree > 1) * 0.01 * step**2 * base[2])

    assert error_of(Prony(order, constant=constant), curve, computed, computed[-1] + 3) <= 1e-6


def test_even_gaps_are_the_limit_of_uneven_ones() -> None:
    base = directions(1, 3)

    def curve(step: float) -> Features:
        return as_features(
            np.exp(-0.05 * step) * base[0] + np.exp(-0.02 * step) * base[1] + np.cos(0.05 * step) * base[2]
        )

    def row(gap: int) -> Features:
        computed = (0, 1000, 2000, 2000 + gap)
        history = np.array([curve(step / 250) for step in reversed(computed)])
        return np.array(row_of(Prony(ridge=1e-12, constant=False), history, computed, 3300))

    assert row(999) == pytest.approx(row(1000), rel=2e-2)
    assert row(1001) == pytest.approx(row(1000), rel=2e-2)
    assert row(999) + row(1001) == pytest.approx(2 * row(1000), rel=1e-3)
