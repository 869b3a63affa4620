"""What another thread changes while the model is captured or run: none of it is taken for what was captured."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import fouriercache as fc
from fouriercache.kept import find_kept
from fouriercache.runtime.structure import changed_places, places_of, structure_at, structure_of
from tests.tiny import ROUNDING, TIMESTEPS, denoise, distance, is_same, labels, noise, step_inputs, tiny_dit

pytestmark = pytest.mark.usefixtures("captured_anew")


class Watched(nn.Module):
    """A DiT that says when it has read its scale; counts its runs, and notes batches that are new to it."""

    def __init__(self) -> None:
        super().__init__()
        self.dit, self.scale, self.runs = tiny_dit(), 1.0, 0
        self.tables: dict[int, int] = {}

    def forward(self, hidden_states: Tensor, timestep: Tensor, class_labels: Tensor) -> Any:
        self.runs += 1
        if not torch.compiler.is_exporting():
            self.tables.setdefault(len(timestep), 1)
        x = hidden_states * self.scale
        SCALE_IS_READ()
        return self.dit(x, timestep, class_labels)


def nothing() -> None: ...


SCALE_IS_READ: Callable[[], None] = nothing


def inputs() -> dict[str, Tensor]:
    return step_inputs(noise(), 900, labels())


@pytest.fixture
def model():
    return Watched().eval()


@pytest.fixture
def fast(model):
    return fc.optimize(model, fc.FORA(interval=1), num_steps=len(TIMESTEPS))


def change_elsewhere(model: Watched) -> None:
    thread = threading.Thread(target=lambda: setattr(model, "scale", 3.0))
    thread.start()
    thread.join()


@pytest.fixture
def changes_behind_the_trace(monkeypatch, model):
    """Another thread changes the scale when the model has been traced, and the capture is not done."""

    def find_kept_late(*args: Any) -> Any:
        change_elsewhere(model)
        return find_kept(*args)

    monkeypatch.setattr("fouriercache.capture.find_kept", find_kept_late)


def check_follows(fast: Any, model: nn.Module, changed_from: list[Tensor]) -> None:
    found = denoise(fast)
    assert distance(found, denoise(model)) < ROUNDING
    assert distance(found, changed_from) > 100 * ROUNDING


@pytest.mark.usefixtures("changes_behind_the_trace")
def test_a_change_while_it_is_captured_takes_effect_with_the_next_trajectory(fast, model):
    unchanged = denoise(fast)
    assert model.scale == 3.0
    check_follows(fast, model, unchanged)


@pytest.mark.usefixtures("changes_behind_the_trace")
def test_a_change_while_it_is_captured_on_demand_takes_effect_with_the_next_trajectory(fast, model):
    unchanged = denoise(Watched().eval())
    fast.capture(inputs())
    assert model.scale == 3.0
    with pytest.raises(fc.NotCapturedError, match="has changed since it was captured"):
        fast.program("compute")
    check_follows(fast, model, unchanged)


def test_a_change_while_it_is_run_to_compare_another_batch_takes_effect_with_the_next_trajectory(
    fast, model, monkeypatch
):
    unchanged = denoise(fast)
    with monkeypatch.context() as patch:
        patch.setattr(f"{__name__}.SCALE_IS_READ", lambda: change_elsewhere(model))
        denoise(fast, x=noise(4))
    assert model.scale == 3.0
    check_follows(fast, model, unchanged)


def test_a_change_when_nothing_was_run_takes_effect_with_the_next_trajectory(fast, model, monkeypatch):
    """Where another thread was faster: what serves the call is there already."""
    unchanged = denoise(fast)
    (stepper,) = fast._steppers

    def serve(call: Any, arguments: Any) -> Any:
        model.scale = 3.0
        return stepper

    with monkeypatch.context() as patch:
        patch.setattr(fast._steppers, "find", lambda call: None)
        patch.setattr(fast._steppers, "serve", serve)
        denoise(fast, timesteps=TIMESTEPS[:1])
    fast.reset()
    check_follows(fast, model, unchanged)


def test_a_hook_set_while_it_is_traced_is_refused_as_one_in_mid_trajectory(fast, model, monkeypatch):
    def set_hook() -> None:
        if torch.compiler.is_exporting():
            monkeypatch.setattr(f"{__name__}.SCALE_IS_READ", nothing)
            model.register_forward_hook(lambda module, args, output: None)

    monkeypatch.setattr(f"{__name__}.SCALE_IS_READ", set_hook)
    with pytest.raises(fc.CaptureError, match=r"(?s)changed in mid-trajectory.*a forward hook"):
        denoise(fast)
    assert is_same(denoise(fast), denoise(model))


def test_what_its_own_runs_set_is_no_change(fast, model):
    denoise(fast)
    (captured,) = fast.captured
    runs = model.runs
    denoise(fast, x=noise(4))
    assert model.runs == runs + 1
    assert fast.least_batch(captured) == 1
    assert model.tables.keys() == {1, 2, 4}
    denoise(fast)
    assert model.runs == runs + 2
    assert fast.captured == (captured,)


def test_what_a_run_first_sets_at_another_batch_costs_one_capture(fast, model):
    model(**inputs())
    found = []
    for batch in (2, 4, 2, 4, 6, 2):
        denoise(fast, x=noise(batch))
        (stepper,) = fast._steppers
        found.append(stepper)
    first, second = found[0], found[-1]
    assert found == [first, first, second, second, second, second]
    assert first is not second


def test_places_are_the_structure_by_parts(model):
    places = places_of(model)
    assert structure_at(places) == structure_of(model)
    assert changed_places(places, places_of(model)) == set()
    model.dit.train()
    model.scale, model.more = 2.0, 1
    del model.tables
    changed = changed_places(places, places_of(model))
    assert {place for place in changed if not place[0]} == {("", "scale"), ("", "more"), ("", "tables")}
    assert ("dit", "") in changed
