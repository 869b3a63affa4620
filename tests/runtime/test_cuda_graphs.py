"""Recording programs in CUDA graphs, held to its rules by a recorder that is not there.

What it records does not run; a replay writes where the recording wrote. So results that were not copied out change
later, inputs that were not copied in are those of another step, and what ran only once is NaN.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

import fouriercache as fc
from fouriercache.optimize import optimize_captured
from fouriercache.program import Input
from fouriercache.runtime.backend import backend_from_name
from fouriercache.runtime.cuda_graphs import RecordedProgram, Turns
from tests.tiny import METHOD, TIMESTEPS, denoise, labels, noise, step_inputs, tiny_dit

GIVEN = (Input("sample", "sample"), Input("slot", "slot"))


class FakeRecorder:
    """The CPU in the place of a GPU; `calls` has what was asked of it, in order."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.place = "cpu"

    def holds(self, tensor: Tensor) -> bool:
        return tensor.device.type == self.place

    def record(self, work: Callable[..., tuple[Tensor, ...]]) -> tuple[Callable[[], None], tuple[Tensor, ...]]:
        self.calls.append("record")
        results = tuple(torch.full_like(result, torch.nan) for result in work())

        def replay() -> None:
            self.calls.append("replay")
            for result, value in zip(results, work(), strict=True):
                result.copy_(value)

        return replay, results

    def mark(self) -> object:
        self.calls.append("mark")
        return len(self.calls)

    def wait(self, mark: object) -> None:
        assert self.calls[int(str(mark)) - 1] == "mark"
        self.calls.append("wait")


class Rig:
    """`sample * weight + slot`, recorded."""

    def __init__(self) -> None:
        module: Any = torch.fx.GraphModule({}, torch.fx.Graph())
        module.register_parameter("weight", torch.nn.Parameter(torch.ones(4)))
        self.module, self.recorder, self.looked = module, FakeRecorder(), 0
        self.run = RecordedProgram(module, self._compute, GIVEN, Turns(self.recorder))

    def _compute(self, sample: Tensor, slot: Tensor) -> tuple[Tensor, ...]:
        return (sample * self.module.weight + slot, 2 * sample)

    @torch.no_grad()
    def __call__(self, sample: Tensor, slot: Tensor) -> tuple[Tensor, ...]:
        found = self.run(sample, slot)
        assert torch.equal(found[0], sample * self.module.weight + slot)
        assert torch.equal(found[1], 2 * sample)
        return found

    def asked(self) -> list[str]:
        """What was asked of the recorder since the last look, but for marks and waits."""
        found = [call for call in self.recorder.calls[self.looked :] if call in ("record", "replay")]
        self.looked = len(self.recorder.calls)
        return found


def rows(first: float = 0, count: int = 2) -> Tensor:
    return torch.arange(first, first + 4 * count, dtype=torch.float32).reshape(count, 4)


def test_what_recurs_is_recorded_once_and_replayed_with_the_values_of_each_call():
    rig, slot, kept = Rig(), rows(100), []
    for step in range(5):
        kept.append(rig(rows(step), slot))
    assert rig.asked() == ["record", "replay", "replay", "replay", "replay"]
    assert all(torch.equal(found[1], 2 * rows(step)) for step, found in enumerate(kept))  # and none changed later
    slot.fill_(7)
    rig(rows(9), slot)  # read where it lies, so its new values count


def test_slots_elsewhere_other_weights_and_other_shapes_get_recordings_of_their_own():
    rig, slots = Rig(), [rows(10), rows(20)]
    for step in range(6):
        rig(rows(step), slots[step % 2])
    assert rig.asked().count("record") == 2
    with torch.no_grad():
        rig.module.weight = torch.nn.Parameter(torch.full((4,), 3.0))
    for step in range(3):
        rig(rows(step), slots[0])
    assert rig.asked() == ["record", "replay", "replay"]
    large = rows(5, count=3)
    for _ in range(2):
        rig(rows(count=3), large)
    rig(rows(), slots[0])
    assert rig.asked() == ["record", "replay"]  # the last call's form is new again


def test_each_run_waits_for_the_end_of_the_last_one():
    rig, slot = Rig(), rows()
    for step in range(3):
        rig(rows(step), slot)
    assert rig.recorder.calls == ["mark", "wait", "record", "replay", "mark", "wait", "replay", "mark"]


def test_recordings_are_bounded():
    rig, slots = Rig(), [rows(number) for number in range(20)]
    for step in range(60):
        rig(rows(step), slots[step % 20])
    assert len(rig.run._recordings) == 8


@pytest.mark.parametrize("why", ["gradients", "another device"])
def test_what_cannot_be_recorded_runs_as_it_is(why):
    rig, slot = Rig(), rows()
    rig.recorder.place = "cuda" if why == "another device" else "cpu"
    with torch.set_grad_enabled(why == "gradients"):
        for step in range(4):
            found = rig.run(rows(step).requires_grad_(why == "gradients"), slot)
            assert found[0].requires_grad == (why == "gradients")
    assert rig.recorder.calls == []


def test_a_trajectory_through_recordings_is_that_of_eager(fast, monkeypatch):
    recorder = FakeRecorder()
    monkeypatch.setattr("fouriercache.runtime.backend.find_recorder", lambda: recorder)
    want = denoise(fast.new_session())
    steps, call = len(TIMESTEPS), step_inputs(noise(), TIMESTEPS[0], labels())
    captured = fast.captured[-1].capture
    recorded = optimize_captured(
        fast.model, captured, METHOD, example_inputs=call, num_steps=steps, backend="cudagraphs"
    )
    for number in range(3):
        have = denoise(recorded.new_session())
        assert all(torch.equal(one, other) for one, other in zip(have, want, strict=True)), f"trajectory {number}"
    assert recorder.calls.count("replay") > steps
    assert pickle.loads(pickle.dumps(backend_from_name("cudagraphs"))).name == "cudagraphs"  # as modules are


def test_without_a_gpu_it_is_said_what_runs_there():
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(fc.LoweringError, match=r"(?s)torch finds none.*eager"):
        fc.optimize(tiny_dit(), METHOD, num_steps=8, backend="cudagraphs")
