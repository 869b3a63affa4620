"""A model that is changed while trajectories run: those that run go on with the old one, or say that they cannot."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import fouriercache as fc
from tests.tiny import METHOD, TIMESTEPS, denoise, is_same, labels, noise, step_inputs, tiny_dit

CHANGED_AT = 3  # a cached step; the last computed one is 1, the next 4


class Scaled(nn.Module):
    """A DiT with a plain number, as a LoRA has its scale."""

    def __init__(self) -> None:
        super().__init__()
        self.dit, self.scale = tiny_dit(), 1.0

    def forward(self, hidden_states: Tensor, timestep: Tensor, class_labels: Tensor) -> Any:
        return self.dit(hidden_states * self.scale, timestep, class_labels)


def begin_another(fast: Any, change: Callable[[], None]) -> Callable[[int], None]:
    """At one step, change the model and let another session begin, which takes the change up."""

    def before_step(step: int) -> None:
        if step == CHANGED_AT:
            change()
            fast.new_session()(**step_inputs(noise(seed=5), 900, labels()))

    return before_step


@pytest.fixture(params=["as it comes", "prepared"])
def begin(request) -> Callable[[Any], Any]:
    def session(fast: Any) -> Any:
        found = fast.new_session()
        if request.param == "prepared":
            found.prepare(TIMESTEPS)
        return found

    return session


@pytest.mark.parametrize("method", [METHOD, fc.FORA(interval=1), fc.TeaCache(threshold=0.1)])
def test_a_trajectory_goes_on_with_the_model_it_was_begun_with(method, begin):
    model = Scaled().eval()
    fast = fc.optimize(model, method, num_steps=len(TIMESTEPS))
    old = denoise(begin(fast))
    session = begin(fast)

    def change() -> None:
        model.scale = 3.0

    assert is_same(denoise(session, before_step=begin_another(fast, change)), old)
    new = denoise(begin(fc.optimize(model, method, num_steps=len(TIMESTEPS))))
    assert is_same(denoise(session), new)
    assert not is_same(new, old)


def test_a_change_of_which_nobody_takes_notice_meanwhile_waits_for_the_next_trajectory():
    model = Scaled().eval()
    fast = fc.optimize(model, METHOD, num_steps=len(TIMESTEPS))
    old = denoise(fast)

    def change(step: int) -> None:
        model.scale = 1.0 + (step >= CHANGED_AT)

    assert is_same(denoise(fast, before_step=change), old)
    assert len(fast._steppers) == 1
    assert not is_same(denoise(fast), old)


def test_a_new_pass_that_the_old_graphs_do_not_serve_is_refused():
    """Its own capture would be of the new model, and the trajectory of both."""
    model = Scaled().eval()
    fast = fc.optimize(model, METHOD, num_steps=len(TIMESTEPS))
    session = fast.new_session()
    with session.cache_context("cond"):
        session(**step_inputs(noise(), 900, labels()))
    model.scale = 3.0
    fast.new_session()(**step_inputs(noise(), 900, labels()))
    with (
        session.cache_context("uncond"),
        pytest.raises(fc.CaptureError, match=r"(?s)changed in mid-trajectory.*another session.*reset\(\)"),
    ):
        session(**step_inputs(noise(batch=3), 900, labels(3)))


def test_a_hook_that_another_session_has_taken_up_is_refused_in_mid_trajectory():
    model = tiny_dit()
    fast = fc.optimize(model, METHOD, num_steps=len(TIMESTEPS))
    session = fast.new_session()

    def change() -> None:
        model.transformer_blocks[1].ff.register_forward_hook(lambda module, args, output: output * 3)

    with pytest.raises(fc.CaptureError, match=r"(?s)changed in mid-trajectory.*a forward hook.*reset\(\)"):
        denoise(session, before_step=begin_another(fast, change))


def test_what_was_made_ahead_is_not_read_by_graphs_that_are_captured_anew(begin):
    """Their nodes may have other names, and their modulation be another."""
    model = Scaled().eval()
    fast = fc.optimize(model, METHOD, num_steps=len(TIMESTEPS))
    session = begin(fast)
    old = denoise(session)

    def recapture(step: int) -> None:
        if step == CHANGED_AT:
            fast.recapture()

    assert is_same(denoise(session, before_step=recapture), old)


def test_a_model_of_other_sites_captured_anew_in_mid_trajectory_is_refused():
    model = tiny_dit()
    fast = fc.optimize(model, METHOD, num_steps=len(TIMESTEPS))

    def prune(step: int) -> None:
        if step == CHANGED_AT:
            model.transformer_blocks = model.transformer_blocks[:1]
            fast.recapture()

    with pytest.raises(fc.TrajectoryError, match=r"(?s)captured again in mid-trajectory.*other features.*reset\(\)"):
        denoise(fast, before_step=prune)
    assert torch.isfinite(denoise(fast.new_session())[-1]).all()
