"""Chebyshev's scalars against the published ridge regression, fitted here to features with numpy."""

from __future__ import annotations

from math import acos, cos
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fouriercache.errors import MethodError, TrajectoryError
from fouriercache.predictors import Chebyshev
from tests.predictors.series import combine, moments, random_features, summed_size, unhurried


def predict_as_published(
    features: dict[int, float],
    computed: tuple[int, ...],
    step: int,
    num_steps: int,
    degree: int,
    ridge: float,
    w: float,
) -> float:
    """Spectrum, src/utils/basis_utils.py: fit C to the features, then evaluate it. T_m(cos x) = cos(m x).

    Its _local_taylor_discrete of order 1 is mixed in with the weight 1 - w.
    """

    def row(at: int) -> list[float]:
        tau = (at - num_steps / 2) * 2 / num_steps
        return [cos(m * acos(tau)) for m in range(degree + 1)]

    design = np.array([row(done) for done in computed])
    values = np.array([features[done] for done in computed])
    normal = design.T @ design + ridge * np.eye(degree + 1)
    fitted = float(np.array(row(step)) @ np.linalg.solve(normal, design.T @ values))
    local = float(values[-1])
    if len(computed) > 1:
        k = (step - computed[-1]) / (computed[-1] - computed[-2])
        local += k * float(values[-1] - values[-2])
    return (1 - w) * local + w * fitted


@unhurried
@given(moments(), st.integers(0, 6), st.floats(0.05, 10), st.floats(0, 1), st.integers(0, 2**32))
def test_chebyshev_is_the_published_regression(
    moment: tuple[int, tuple[int, ...], int], degree: int, ridge: float, w: float, seed: int
) -> None:
    num_steps, computed, step = moment
    features = random_features(computed, seed)
    coefficients = Chebyshev(num_steps, degree, ridge, history=20, weight=w).coefficients(computed, step)
    published = predict_as_published(features, computed, step, num_steps, degree, ridge, w)
    assert len(coefficients) == len(computed)
    parts = [Chebyshev(num_steps, degree, ridge, history=20, weight=part) for part in (0, 1)]
    size = sum(summed_size(part.coefficients(computed, step), computed, features.__getitem__) for part in parts)
    assert abs(combine(coefficients, computed, features.__getitem__) - published) <= 1e-12 * size


def test_window_forgets_features_older_than_the_history() -> None:
    whole, window = Chebyshev(50, history=12), Chebyshev(50, history=3)
    assert window.coefficients((0, 1, 2, 5, 9), 11) == whole.coefficients((2, 5, 9), 11)
    assert whole.history == 12


def test_small_ridge_follows_a_polynomial_of_its_degree() -> None:
    computed = tuple(range(0, 40, 4))
    coefficients = Chebyshev(50, degree=3, ridge=1e-9).coefficients(computed, 41)
    curve = [0.3, -0.02, 0.001, -0.00003]
    assert combine(coefficients, computed, lambda t: float(np.polyval(curve, t))) == pytest.approx(
        float(np.polyval(curve, 41)), rel=1e-6
    )


def test_ridge_pulls_towards_zero_when_little_is_computed() -> None:
    (alone,) = Chebyshev(50, degree=4, ridge=0.1).coefficients((0,), 1)
    assert 0 < alone < 1


def test_step_outside_its_trajectory_is_refused() -> None:
    with pytest.raises(TrajectoryError, match="outside the 20 steps whose times"):
        Chebyshev(20).coefficients((0, 5), 20)


@pytest.mark.parametrize(
    ("fields", "fault"),
    [
        ({"num_steps": 0}, "num_steps to be at least 1"),
        ({"num_steps": None}, "num_steps to be a whole number"),
        ({"degree": -1}, "degree to be at least 0"),
        ({"ridge": 0}, "ridge to be finite and above 0"),
        ({"ridge": None}, "ridge to be a number"),
        ({"history": 0}, "history to be at least 1"),
        ({"weight": 1.5}, "weight to be finite and at least 0 and at most 1"),
        ({"weight": -0.5}, "weight to be finite and at least 0 and at most 1"),
    ],
)
def test_wrong_fields_are_refused(fields: dict[str, Any], fault: str) -> None:
    with pytest.raises(MethodError, match=f"Chebyshev needs {fault}"):
        Chebyshev(**{"num_steps": 50, **fields})
