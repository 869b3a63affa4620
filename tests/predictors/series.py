"""Made-up features of a trajectory, and what the tests of predictors do with scalars. Floats or exact Fractions."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import TypeVar

from hypothesis import settings
from hypothesis import strategies as st

Number = TypeVar("Number", float, Fraction)

unhurried = settings(deadline=None)  # the machine may be busy; these tests are about values


@st.composite
def moments(draw: st.DrawFn, longest: int = 60) -> tuple[int, tuple[int, ...], int]:
    """num_steps, the steps computed so far at any gaps, and a later step that is predicted."""
    num_steps = draw(st.integers(2, longest))
    step = draw(st.integers(1, num_steps - 1))
    later = draw(st.sets(st.integers(1, max(step - 1, 1)), max_size=12))
    return num_steps, (0, *sorted(later - {step})), step


def random_features(steps: Sequence[int], seed: int) -> dict[int, float]:
    chance = random.Random(seed)
    return {step: chance.gauss(0, 1) for step in steps}


def combine(coefficients: Sequence[float], computed: Sequence[int], feature: Callable[[int], float]) -> float:
    """Return sum_k c_k H_k, H_k the feature of the k-th newest computed step."""
    return sum(c * feature(step) for c, step in zip(coefficients, reversed(computed), strict=False))


def summed_size(coefficients: Sequence[float], computed: Sequence[int], feature: Callable[[int], float]) -> float:
    """Return sum_k |c_k H_k|: what a rounding error is relative to."""
    return sum(abs(c * feature(step)) for c, step in zip(coefficients, reversed(computed), strict=False))
