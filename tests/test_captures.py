"""Which calls a capture serves: sizes, constants and values for which the graph is not the model are told apart."""

from __future__ import annotations

import copy
import itertools
import re
import warnings
from typing import Any
from unittest.mock import Mock

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses import FakeTensorMode

import fouriercache as fc
from fouriercache.calls import Binder
from fouriercache.capture import capture
from fouriercache.program import NoMatch
from fouriercache.runtime.steppers import MOST_KEPT
from tests.tiny import METHOD, TIMESTEPS, denoise, labels, noise, step_inputs, tiny_dit

pytestmark = pytest.mark.usefixtures("captured_anew")

EVERY_STEP = fc.FORA(1)


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(3, 6), nn.Linear(6, 3)

    def forward(self, x):
        return x + self.second(torch.relu(self.first(x)))


class Wrapped(nn.Module):
    """Two residual blocks, with something around them; captured much faster than a DiT."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.blocks = nn.ModuleList(Block() for _ in range(2))
        self.eval()

    def run(self, hidden_states, timestep):
        x = hidden_states.flatten(2).transpose(1, 2) + torch.tanh(timestep.float() / 1000)[:, None, None]
        for block in self.blocks:
            x = block(x)
        return x.transpose(1, 2).unflatten(2, hidden_states.shape[2:])


class Scales(Wrapped):
    """Multiplies by a number that depends on the inputs; the test says how."""

    def __init__(self, scale) -> None:
        super().__init__()
        self.scale = scale

    def forward(self, hidden_states, timestep):
        return self.run(hidden_states, timestep) * self.scale(hidden_states)


class TakesConstant(Wrapped):
    def forward(self, hidden_states, timestep, k: Any = 1):
        """Tell constants apart that Python calls equal."""
        found = self.run(hidden_states, timestep)
        given = k["k"] if isinstance(k, dict) else k
        return found * (2 if given is True else 3 if given is False else 5 if type(given) is float else 1)


def inputs_of(x: Tensor, timestep: float = 900) -> dict[str, Tensor]:
    return {"hidden_states": x, "timestep": torch.full((len(x),), timestep)}


def call(fast, batch=2, **more):
    return fast.new_session()(**inputs_of(noise(batch)), **more)


def own(model, batch=2, **more):
    with torch.no_grad():
        return model(**inputs_of(noise(batch)), **more)


SCALES = {
    "above 4": lambda x: 5 if x.shape[0] > 4 else 1,
    "below 4": lambda x: 5 if x.shape[0] < 4 else 1,
    "odd": lambda x: 3 if x.shape[0] % 2 else 2,
}


@pytest.mark.parametrize("scale", SCALES.values(), ids=SCALES)
def test_a_model_that_branches_on_its_batch_is_served_on_both_sides(scale):
    model = Scales(scale)
    fast = fc.optimize(model, EVERY_STEP, num_steps=1)
    for batch in (2, 3, 6):
        assert torch.allclose(call(fast, batch), own(model, batch), rtol=0, atol=1e-5)
    assert len(fast._steppers) == 2  # one for each side of the branch


def test_a_graph_that_is_wrong_at_another_batch_is_replaced_by_one_for_this_batch_alone():
    factor = [1]  # behind the capture's back, as no guard can tell
    model = Scales(lambda x: factor[0])
    fast = fc.optimize(model, EVERY_STEP, num_steps=1)
    call(fast, 2)
    factor[0] = 5
    assert torch.allclose(call(fast, 3), own(model, 3), rtol=0, atol=1e-5)
    (reason,) = fast.report.refused["capture"]
    assert re.match(r"no dynamic batch: CaptureError: the captured graph .* differs by", reason.reason)
    assert torch.allclose(call(fast, 3), own(model, 3), rtol=0, atol=1e-5)
    assert len(fast._steppers) == 2


def test_each_new_batch_costs_one_run_of_the_model():
    runs: list[int] = []

    def count(x):
        runs.append(1)
        return 1

    fast = fc.optimize(Scales(count), EVERY_STEP, num_steps=1)
    call(fast, 2)
    runs.clear()  # torch.export ran it, too
    for batch in (2, 4, 4, 3, 2, 4):
        call(fast, batch)
    assert runs == [1, 1]


def test_a_batch_that_the_model_takes_for_a_constant_is_served_alone():
    model = Scales(lambda x: float(x.shape[0]))
    fast = fc.optimize(model, EVERY_STEP, num_steps=1)
    for batch in (2, 3):
        assert torch.allclose(call(fast, batch), own(model, batch), rtol=0, atol=1e-5)


def test_a_dynamic_batch_that_is_refused_says_why():
    model = Scales(lambda x: torch.ones(2, 1, 1, 1))  # broadcasts to a batch of 2 alone
    fast = fc.optimize(model, EVERY_STEP, num_steps=1)
    assert torch.allclose(call(fast), own(model), rtol=0, atol=1e-5)
    assert [reason.reason[:17] for reason in fast.report.refused["capture"]] == ["no dynamic batch:"]


@pytest.mark.parametrize("rows", [0, 1])
def test_a_graph_that_differs_from_its_model_is_refused_whatever_rows_are_nan(rows):
    x = noise()
    x[:rows] = torch.nan
    calls = itertools.count(1)  # state that a graph cannot see
    fast = fc.optimize(Scales(lambda x: float(next(calls))), EVERY_STEP, num_steps=1, check_finite=False)
    with pytest.raises(fc.CaptureError, match=r"(?s)does not compute what .*: output 0 differs by .*state"):
        fast(**inputs_of(x))
    assert len(fast._steppers) == 0


def test_another_models_graph_is_refused_when_part_of_the_input_is_nan():
    x = noise()
    x[0] = torch.nan
    inputs = step_inputs(x, 900, labels())
    model = tiny_dit()
    found = capture(tiny_dit(seed=9), inputs)
    with pytest.raises(fc.CaptureError, match="does not compute what the model computes"):
        found.agrees(model, inputs, Binder(model).flatten(inputs))
    assert capture(model, inputs).is_verified


def test_inputs_that_leave_nothing_to_compare_are_refused():
    inputs = step_inputs(noise() * torch.nan, 900, labels())
    fast = fc.optimize(tiny_dit(), METHOD, num_steps=len(TIMESTEPS))
    with pytest.raises(fc.CaptureError, match=r"(?s)itself gives nothing but NaN or inf.*inputs and weights"):
        fast(**inputs)
    assert len(fast._steppers) == 0


def test_a_capture_that_nan_left_unverified_is_compared_at_the_next_call():
    factor = [1]
    model = Scales(lambda x: factor[0])
    fast = fc.optimize(model, EVERY_STEP, num_steps=1, check_finite=False)
    fast.new_session()(**inputs_of(noise() * torch.nan))
    factor[0] = 5
    assert torch.allclose(call(fast), own(model), rtol=0, atol=1e-5)


def test_a_capture_from_fake_inputs_is_compared_once_real_ones_come():
    factor = [1]
    model = Scales(lambda x: factor[0])
    with FakeTensorMode():
        inputs = inputs_of(torch.empty(2, 3, 8, 8))
    fast = fc.optimize(model, EVERY_STEP, num_steps=1, example_inputs=inputs)
    factor[0] = 5
    assert torch.allclose(call(fast), own(model), rtol=0, atol=1e-5)


@pytest.mark.parametrize("constants", [(1, True, 1.0), (True, 1), (0, False, 0.0)])
@pytest.mark.parametrize("nest", [lambda k: k, lambda k: {"k": k}], ids=["plain", "nested"])
def test_constants_that_python_calls_equal_are_apart(constants, nest):
    model = TakesConstant()
    fast = fc.optimize(model, EVERY_STEP, num_steps=1)
    for k in constants:
        assert torch.allclose(call(fast, k=nest(k)), own(model, k=nest(k)), rtol=0, atol=1e-5)
    assert len(fast._steppers) == len(constants)


def test_nan_as_a_constant_is_captured_once():
    fast = fc.optimize(TakesConstant(), EVERY_STEP, num_steps=1)
    for _ in range(3):
        call(fast, k=float("nan"))
    assert len(fast._steppers) == 1


def test_keys_tell_what_a_model_can_ask_of_a_constant():
    binder = Binder(TakesConstant())
    values = [1, True, 1.0, 0, False, 0.0, -0.0, "1", None, float("nan")]
    keys = [binder.flatten({"k": value}).key for value in values]
    assert len(set(keys)) == len(values)
    assert keys == [binder.flatten({"k": copy.copy(value)}).key for value in values]


class StandIn:
    """What the bounds look at in a stepper, made in no time."""

    def __init__(self, call: Any) -> None:
        self.key = call.key
        self.steps = self
        self.capture = self
        self.shapes = ()
        self.is_verified = True
        self.questions = None

    def dynamic_sizes(self, call: Any) -> tuple[int, ...] | None:
        return () if call.key == self.key else None

    def differing_question(self, call: Any) -> None:
        return None


def made_up_captures() -> Any:
    fast: Any = fc.optimize(TakesConstant(), EVERY_STEP, num_steps=1)
    fast._steppers._build = lambda arguments, fixed: StandIn(fast._binder.flatten(arguments))
    return fast


def serve(fast: Any, **constants: Any) -> Any:
    arguments = {"hidden_states": noise(), **constants}
    call = fast._binder.flatten(arguments)
    return fast._steppers.find(call) or fast._steppers.serve(call, arguments)


def test_the_capture_used_longest_ago_goes_first():
    fast = made_up_captures()
    first, second = serve(fast, k="0"), serve(fast, k="1")
    for number in range(2, MOST_KEPT):
        serve(fast, k=str(number))
    assert serve(fast, k="0") is first
    serve(fast, k="one more")
    assert len(fast._steppers) == MOST_KEPT
    assert serve(fast, k="0") is first
    assert serve(fast, k="1") is not second


def test_a_number_that_changes_from_step_to_step_is_named():
    fast = made_up_captures()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for number in (0.5, 0.25, 0.125):
            serve(fast, k=number)
            serve(fast, k=number)
    with pytest.warns(fc.RecaptureWarning, match=r"(?s)argument k of .* 0.125, 0.25, 0.5, .*as a tensor"):
        serve(fast, k=0.0625)


def test_words_that_change_are_no_numbers():
    fast = made_up_captures()
    for word in "abcdef":
        serve(fast, k=word)
    assert len(fast._steppers) == 6


def test_a_form_that_does_not_fit_the_trajectory_is_refused_before_it_is_captured(fast, monkeypatch):
    session = fast.new_session()
    denoise(session, timesteps=TIMESTEPS[:3])

    def build(arguments, fixed: NoMatch | None):
        raise AssertionError("it was captured")

    monkeypatch.setattr(fast._steppers, "_build", build)
    with pytest.raises(fc.TrajectoryError, match=r"(?s)changed their batch, shape.*step 3"):
        session(**step_inputs(noise(size=24), TIMESTEPS[3], labels()))  # a size that no other test captures
    with pytest.raises(fc.TrajectoryError, match=r"(?s)changed their batch, shape.*step 3"):
        session(**step_inputs(noise(5), TIMESTEPS[3], labels(5)))
    with pytest.raises(AssertionError, match="it was captured"):
        session(**step_inputs(noise(size=24), TIMESTEPS[0], labels()))  # a new trajectory may have another form


def test_what_serves_a_form_of_call_is_remembered_up_to_a_bound(monkeypatch):
    fast = made_up_captures()
    kept = {word: serve(fast, k=word) for word in "abc"}
    fast._steppers._search = search = Mock(wraps=fast._steppers._search)
    monkeypatch.setattr("fouriercache.runtime.steppers._MOST_FORMS", 2)
    assert all(serve(fast, k=word) is kept[word] for word in "ababca")
    assert [made.args[0].key for made in search.call_args_list] == [kept[word].key for word in "abca"]
