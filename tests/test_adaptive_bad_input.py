"""Adaptive schedules under bad input: refused before anything is decided, and nothing of it is kept."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

import fouriercache as fc
from fouriercache.runtime.probe import Probe
from fouriercache.runtime.stepper import Stepper
from tests.brute_teacache import NOISE, STEPS, THRESHOLD
from tests.tiny import TIMESTEPS, denoise, is_same, labels, noise, step_inputs, tiny_dit


@pytest.fixture(scope="module")
def model() -> Any:
    return tiny_dit()


@pytest.fixture(scope="module")
def fast(model) -> fc.OptimizedModule:
    return fc.optimize(model, fc.TeaCache(THRESHOLD), num_steps=STEPS)


@pytest.fixture(scope="module")
def expected(fast) -> list[Tensor]:
    """A trajectory of a fresh session, bit for bit what every other must give."""
    return denoise(fast.new_session())


def run_out_of_memory(*_: object, **__: object) -> None:
    raise MemoryError


def test_a_run_broken_off_leaves_nothing_to_the_next(fast, expected):
    session = fast.new_session()
    denoise(session, x=noise(seed=5), timesteps=TIMESTEPS[:4])
    assert is_same(denoise(session), expected)
    assert len(session.decisions[0]) == STEPS


def test_the_first_timestep_twice_begins_again(fast, expected):
    session = fast.new_session()
    with torch.no_grad():
        session(**step_inputs(noise(seed=5), TIMESTEPS[0], labels()))
    assert is_same(denoise(session), expected)


def test_a_timestep_twice_in_mid_run_is_refused_and_leaves_no_trace(fast, expected):
    session = fast.new_session()

    def repeat(step: int) -> None:
        if step == 3:
            with pytest.raises(fc.TrajectoryError, match="passes"):
                session(**step_inputs(noise(seed=7), TIMESTEPS[2], labels()))

    assert is_same(denoise(session, before_step=repeat), expected)


def test_a_change_of_batch_is_refused_before_anything_is_measured(fast, expected, monkeypatch):
    session = fast.new_session()

    def grow(step: int) -> None:
        if step == 2:
            with monkeypatch.context() as patch:
                patch.setattr(Probe, "look", None)
                with pytest.raises(fc.TrajectoryError, match="changed their batch"):
                    session(**step_inputs(noise(3), TIMESTEPS[2], labels(3)))

    assert is_same(denoise(session, before_step=grow), expected)


@pytest.mark.parametrize("check_finite", [True, False])
def test_nan_is_refused_where_it_would_decide_and_leaves_no_trace(model, expected, check_finite):
    session = fc.optimize(model, fc.TeaCache(THRESHOLD), num_steps=STEPS, check_finite=check_finite).new_session()
    bad = noise()
    bad[0, 0, 0, 0] = torch.nan

    def poison(step: int) -> None:
        if step in (1, 4):
            with pytest.raises(fc.TrajectoryError, match=r"(?s)change cannot be measured.*nan.*where: timestep"):
                session(**step_inputs(bad, TIMESTEPS[step], labels()))

    assert is_same(denoise(session, before_step=poison), expected)


def test_a_step_that_fails_leaves_the_indicator_as_it_was(fast, expected, monkeypatch):
    session = fast.new_session()

    def fail(step: int) -> None:
        if step in (0, 3):
            with monkeypatch.context() as patch:
                patch.setattr(Stepper, "run", run_out_of_memory)
                with pytest.raises(MemoryError):
                    session(**step_inputs(noise(seed=9), TIMESTEPS[step], labels()))

    assert is_same(denoise(session, before_step=fail), expected)


def test_latents_that_the_caller_changes_in_place_are_compared_as_they_were(model):
    fast = fc.optimize(model, fc.TeaCache(0.1, indicator=fc.Latents(), last=0))
    x = noise()
    with torch.no_grad():
        for timestep in TIMESTEPS[:2]:
            fast(**step_inputs(x, timestep, labels()))
            x.mul_(1.5)
    first, second = fast.session.decisions[0]
    assert first.distance is None
    assert second.distance == pytest.approx(0.5)


def test_the_number_of_steps_is_asked_for_where_the_last_is_forced(model):
    with pytest.raises(fc.MethodError, match=r"(?s)needs the number of steps.*num_steps="):
        fc.optimize(model, fc.TeaCache(THRESHOLD))
    fc.optimize(model, fc.TeaCache(THRESHOLD, last=0))


def test_a_change_outside_the_fitted_range_is_refused_or_a_fact_in_the_report(model):
    refusing = fc.optimize(model, fc.TeaCache(THRESHOLD, fc.Polynomial((1.0, 0.0), 0.0, 0.05)), num_steps=STEPS)
    with pytest.raises(fc.TrajectoryError, match=r'(?s)outside the range.*0\.0 to 0\.05.*outside="clamp"'):
        denoise(refusing)
    clamped = fc.Polynomial((1.0, 0.0), 0.0, 0.05, outside="clamp")
    clamping = fc.optimize(model, fc.TeaCache(THRESHOLD, clamped), num_steps=STEPS)
    denoise(clamping)
    facts = clamping.report.decisions[0]
    assert [fact.is_clamped for fact in facts] == [(fact.distance or 0) > 0.05 for fact in facts]
    assert any(fact.is_clamped for fact in facts)


def test_a_timestep_without_noise_level_is_refused(model):
    fast = fc.optimize(model, fc.SeaCache(0.1, noise=fc.DDPM([0.9, 0.5])), num_steps=STEPS)
    with pytest.raises(fc.TrajectoryError, match=r"(?s)900\.0 is not in the table.*timesteps 0 to 1"):
        denoise(fast)


def test_timesteps_that_differ_in_a_batch_have_no_common_filter(model):
    fast = fc.optimize(model, fc.SeaCache(0.1, noise=NOISE), num_steps=STEPS)
    inputs = step_inputs(noise(), 900, labels()) | {"timestep": torch.tensor([900.0, 800.0])}
    with pytest.raises(fc.TrajectoryError, match=r"(?s)different timesteps.*\(900\.0, 800\.0\)"):
        fast(**inputs)
