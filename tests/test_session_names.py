"""A session in the model's place: it stays in it whatever is called on it, and by its names it is the model."""

from __future__ import annotations

import copy
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
from accelerate.hooks import ModelHook, add_hook_to_module, remove_hook_from_module  # type: ignore[import-untyped]
from torch import Tensor, nn

import fouriercache as fc
from fouriercache.gates import gate_of
from fouriercache.runtime.request import Request
from tests.test_drop_in import Parent
from tests.tiny import COMPUTED, METHOD, TIMESTEPS, denoise, is_same, labels, noise, step_inputs, tiny_dit


class Chained(nn.Module):
    """A DiT with a private attribute, and a method and a property that give the model itself."""

    def __init__(self) -> None:
        super().__init__()
        self.dit, self._scale = tiny_dit(), 1.0

    def forward(self, hidden_states: Tensor, timestep: Tensor, class_labels: Tensor) -> Any:
        return self.dit(hidden_states * self._scale, timestep, class_labels)

    def scaled(self, scale: float) -> Chained:
        """Set the scale, and return the model."""
        self._scale = scale
        return self

    @property
    def base_model(self) -> Chained:
        return self


@pytest.fixture
def model():
    return Chained().eval()


@pytest.fixture
def fast(model):
    return fc.optimize(model, METHOD, num_steps=len(TIMESTEPS))


CHAINED = {
    "to a device": lambda it: it.to("cpu"),
    "to a dtype": lambda it: it.to(torch.float64),
    "eval": lambda it: it.eval(),
    "train": lambda it: it.train(),
    "half": lambda it: it.half(),
    "float": lambda it: it.float(),
    "bfloat16": lambda it: it.bfloat16(),
    "cpu": lambda it: it.cpu(),
    "requires_grad_": lambda it: it.requires_grad_(False),
    "apply": lambda it: it.apply(lambda _: None),
    "get_submodule": lambda it: it.get_submodule(""),
    "a method of the model": lambda it: it.scaled(2.0),
    "a property of the model": lambda it: it.base_model,
    "several": lambda it: it.eval().scaled(2.0).to("cpu"),
}


@pytest.mark.parametrize("take", [lambda fast: fast, lambda fast: fast.new_session()], ids=["module", "session"])
@pytest.mark.parametrize("use", CHAINED.values(), ids=CHAINED)
def test_what_would_give_the_model_gives_what_stands_for_it(fast, take, use):
    it = take(fast)
    assert use(it) is it


def test_a_session_that_is_moved_into_a_pipeline_runs_from_its_cache(fast, model):
    session = fast.new_session().to("cpu").eval().requires_grad_(False)
    assert is_same(denoise(session), denoise(fast))
    assert session.computed_steps == {0: COMPUTED}
    assert not any(weight.requires_grad for weight in model.parameters())
    parent = Parent(session)
    assert list(parent.state_dict()) == list(Parent(model).state_dict())
    parent.to(torch.float64).train()
    assert parent.denoiser is session
    assert {weight.dtype for weight in model.parameters()} == {torch.float64}
    assert model.training


def test_a_sessions_forward_is_its_own_step(fast):
    session = fast.new_session()
    assert is_same(denoise(session.forward), denoise(fast))
    assert session.computed_steps == {0: COMPUTED}


USES = {
    "state_dict": lambda it: it.state_dict(),
    "load_state_dict": lambda it: it.load_state_dict(tiny_state()),
    "to": lambda it: it.to(torch.float64),
    "half": lambda it: it.half(),
}


def tiny_state() -> dict[str, Tensor]:
    return Chained().state_dict()


@pytest.mark.parametrize("use", USES.values(), ids=USES)
def test_what_reads_or_replaces_weights_through_a_session_waits_while_a_capture_is_alone_with_them(fast, model, use):
    session = fast.new_session()
    with ThreadPoolExecutor(1) as pool:
        with gate_of(model).alone():
            running = pool.submit(use, session)
            with pytest.raises(TimeoutError):
                running.result(timeout=0.3)
        running.result(timeout=60)


def test_a_private_name_that_the_model_has_is_the_models(fast, model):
    session = fast.new_session()
    before = denoise(session)
    session._scale, session._note = 3.0, "of this session"
    assert model._scale == session._scale == 3.0
    after = denoise(session)
    assert is_same(after, denoise(fast))
    assert not is_same(after, before)
    assert not hasattr(model, "_note")
    assert not hasattr(fast.new_session(), "_note")
    del session._scale, session._note
    assert not hasattr(model, "_scale")
    assert not hasattr(session, "_note")


def test_its_own_names_are_its_own_though_the_model_has_them(model):
    model._trajectory, model.position = "the model's", "the model's"
    session: Any = fc.optimize(model, METHOD, num_steps=len(TIMESTEPS)).new_session()
    denoise(session)
    assert session.position.step == len(TIMESTEPS) - 1
    assert model._trajectory == model.position == "the model's"
    assert {"dit", "_scale", "position", "computed_steps"} <= set(dir(session))


def test_a_property_that_fails_says_why(fast, monkeypatch):
    monkeypatch.setattr(Request, "position", property(lambda self: self._trajectory.no_such_thing))
    with pytest.raises(AttributeError, match="'Trajectory' object has no attribute 'no_such_thing'"):
        fast.new_session().position  # noqa: B018  # reading it is the test


def test_a_hook_of_accelerate_is_put_around_a_session_and_taken_off(fast, model):
    class Counting(ModelHook):  # type: ignore[misc]  # accelerate has no types
        calls = 0

        def init_hook(self, module):
            return module.to("cpu")  # as that of offloading does

        def pre_forward(self, module, *args, **kwargs):
            self.calls += 1
            return args, kwargs

    session, hook, inputs = fast.new_session(), Counting(), step_inputs(noise(), 900, labels())
    want = session(**inputs).sample
    assert add_hook_to_module(session, hook) is session
    assert not {"forward", "_hf_hook", "_old_forward"} & vars(model).keys()
    session.reset()
    assert is_same([session(**inputs).sample], [want])
    assert hook.calls == 1
    remove_hook_from_module(session)
    session.reset()
    assert is_same([session(**inputs).sample], [want])
    assert hook.calls == 1


def test_a_session_is_not_copied(fast):
    with pytest.raises(fc.TrajectoryError, match=r"(?s)cannot be copied.*new_session"):
        copy.copy(fast.new_session())
