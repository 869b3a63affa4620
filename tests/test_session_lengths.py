"""Sessions of one optimised module for several lengths: each has its own schedule, all share captures."""

from __future__ import annotations

from typing import Any

import pytest

import fouriercache as fc
from fouriercache.predictors import Chebyshev
from tests.tiny import TIMESTEPS, denoise, is_same, tiny_dit

LENGTHS = (8, 4, 12)


def timesteps(length: int) -> tuple[float, ...]:
    return tuple(900 - 800 * step / length for step in range(length))


@pytest.fixture(scope="module")
def model() -> Any:
    return tiny_dit()


def alone(model: Any, method: fc.Method, length: int) -> Any:
    """What a module that was made for this length gives."""
    return denoise(fc.optimize(model, method, num_steps=length), timesteps=timesteps(length))


def test_sessions_of_any_length_are_exact_where_every_step_is_computed_and_share_one_capture(model):
    fast = fc.optimize(model, fc.FORA(interval=1), num_steps=LENGTHS[0])
    for length in LENGTHS:
        session = fast.new_session(num_steps=length)
        assert session.num_steps == length
        assert is_same(denoise(session, timesteps=timesteps(length)), denoise(model, timesteps=timesteps(length)))
    assert len(fast.captured) == 1


@pytest.mark.parametrize("method", [fc.FORA(interval=3), fc.ToCa(interval=3, ratio=0.5)], ids=["FORA", "ToCa"])
def test_a_session_has_the_schedule_of_its_own_length(model, method):
    fast = fc.optimize(model, method, num_steps=LENGTHS[0])
    for length in LENGTHS:
        session = fast.new_session(num_steps=length)
        for _ in range(2):
            found = denoise(session, timesteps=timesteps(length))
            assert session.computed_steps[0] == method.schedule.steps(length)
        assert is_same(found, alone(model, method, length))
    assert fast.new_session().num_steps == fast.session.num_steps == LENGTHS[0]
    assert len(fast.captured) == 1


def test_a_session_gives_a_length_to_a_module_that_was_made_for_any(model):
    fast = fc.optimize(model, fc.TaylorSeer(interval=2, order=1))
    session = fast.new_session(num_steps=4)
    denoise(session, timesteps=timesteps(4))
    with pytest.raises(fc.TrajectoryError, match="steps"):
        session.prepare(timesteps(5))
    assert fast.session.num_steps is None


def test_a_method_that_is_made_for_one_length_is_refused_at_another(model):
    method = fc.TaylorSeer(interval=2).with_(predictor=Chebyshev(num_steps=8))
    fast = fc.optimize(model, method, num_steps=8)
    assert fast.new_session(num_steps=8).num_steps == 8
    with pytest.raises(fc.MethodError, match="8"):
        fast.new_session(num_steps=9)


def test_a_calibration_is_refused_at_another_length(model):
    fast = fc.optimize(model, fc.FORA(interval=2), num_steps=8)
    fast.rules = type(fast.rules)(fast.method, 8, timesteps=TIMESTEPS)
    assert fast.new_session(num_steps=8).num_steps == 8
    with pytest.raises(fc.CalibrationError, match=r"(?s)calibrated for 8 steps.*asks for 9"):
        fast.new_session(num_steps=9)


@pytest.mark.parametrize("wrong", [0, -1, 2.0, True, "8"])
def test_what_is_no_number_of_steps_is_refused(model, wrong):
    with pytest.raises(fc.MethodError, match="num_steps"):
        fc.optimize(model, fc.FORA(interval=2), num_steps=8).new_session(num_steps=wrong)
