from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fouriercache as fc
from fouriercache.calibration.polynomials import fit_polynomial
from fouriercache.errors import CalibrationError, MethodError, TrajectoryError
from tests.calibration.sets import STEPS, sampler
from tests.tiny import tiny_dit


@settings(max_examples=40, deadline=None)
@given(st.lists(st.floats(-3, 3), min_size=5, max_size=5), st.integers(0, 1000))
def test_recovers_a_polynomial_of_degree_4_from_its_values(coefficients: list[float], seed: int):
    inputs = np.sort(np.random.default_rng(seed).uniform(0.01, 0.4, 30))
    found, r_squared = fit_polynomial(inputs, np.polyval(coefficients, inputs))
    assert np.polyval(found.coefficients, inputs) == pytest.approx(np.polyval(coefficients, inputs), abs=1e-9)
    assert r_squared > 1 - 1e-6 or np.ptp(np.polyval(coefficients, inputs)) < 1e-9
    assert (found.low, found.high) == (inputs[0], inputs[-1])


def test_r_squared_is_the_share_of_variance_that_is_explained():
    draw = np.random.default_rng(0)
    inputs, noise = draw.uniform(0, 1, 4000), draw.normal(size=4000)
    assert fit_polynomial(inputs, noise)[1] == pytest.approx(0, abs=0.01)
    assert fit_polynomial(inputs, 12**0.5 * inputs + noise)[1] == pytest.approx(0.5, abs=0.03)


def test_refuses_to_say_anything_outside_the_range_it_was_fitted_on():
    found, _ = fit_polynomial(np.linspace(0.1, 0.2, 9), np.linspace(0.3, 0.4, 9))
    assert found.rescale(0.15).value == pytest.approx(0.35)
    for distance in (0.099, 0.201):
        with pytest.raises(TrajectoryError, match="outside the range"):
            found.rescale(distance)


@pytest.mark.parametrize("inputs", [[0.1] * 9, [0.1, 0.2, 0.3, 0.4], [0.1, 0.2, 0.3, 0.4, 0.5, float("nan")]])
def test_refuses_too_few_distances(inputs: list[float]):
    with pytest.raises(CalibrationError, match="degree 4 needs 5"):
        fit_polynomial(inputs, [1.0] * len(inputs))


def test_calibrates_what_measures_and_the_module_then_uses_it():
    model: Any = tiny_dit()
    method = fc.TeaCache(threshold=0.5)
    found = fc.calibrate(model, method, num_steps=STEPS, sample=sampler(batches=2), progress=False)
    assert found.steps == ()
    assert found.polynomial is not None
    assert found.r_squared is not None
    assert 0 < found.r_squared <= 1
    assert len(found.timesteps) == STEPS
    fast = fc.optimize(model, method, calibration=found)
    sampler(batches=2)(fast)  # no distance is outside the range
    (decisions,) = fast.session.decisions.values()
    measured = [one.distance for one in decisions if one.distance is not None]
    assert measured
    assert found.polynomial.low <= min(measured) <= max(measured) <= found.polynomial.high  # type: ignore[operator]
    for changes in ({"steps": 4}, {"fit": fc.Fit()}, {"refine": 1}):
        with pytest.raises(MethodError, match="decides about steps itself"):
            fc.calibrate(model, method, num_steps=STEPS, sample=sampler(), progress=False, **changes)
