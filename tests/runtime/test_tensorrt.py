"""Running plans, held to the library's protocol by a device that is not there: calls, their order, and addresses."""

from __future__ import annotations

import hashlib
import threading
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from fouriercache.errors import EngineError
from fouriercache.program import Input
from fouriercache.runtime.tensorrt import PlanExecutable, PlanFile, find_device, load_engine
from fouriercache.tensorrt_library import Library
from tests.runtime.fake_tensorrt import INPUTS, OUTPUTS, FakeDevice, FakeEngine, Validity, fake_library

GIVEN = (Input("sample", "sample"), Input("slot", "slot"))


class Rig:
    """A fake device, an engine on it, and what runs it."""

    def __init__(self, folder: Path, ranges=((1, 8),), *, rtx: bool = True, capture: bool = True) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self.device = FakeDevice(self.calls)
        self.engine = FakeEngine(self.device, ranges, rtx=rtx)
        self.plan = a_plan(folder)
        self.library = Library("TensorRT-RTX", "1.7.1.116", fake_library(self.engine))
        loaded = load_engine(self.plan, self.library, self.device)
        self.run = PlanExecutable(loaded, GIVEN, OUTPUTS, self.device, capture=capture)

    def names(self) -> list[str]:
        """The calls so far, by name; they are forgotten."""
        names = [call[0] for call in self.calls]
        self.calls.clear()
        return names


def a_plan(folder: Path, data: bytes = b"a plan", **said: str) -> PlanFile:
    path = folder / "compute.plan"
    path.write_bytes(data)
    about = {"sha256": hashlib.sha256(b"a plan").hexdigest(), "library": "TensorRT-RTX", "version": "1.7.1.116",
             "capability": "sm89", **said}  # fmt: skip
    return PlanFile(path, **about)


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    return Rig(tmp_path)


def rows(batch: int, first: float = 0) -> Tensor:
    return torch.arange(first, first + batch * 4, dtype=torch.float32).reshape(batch, 4)


def test_runs_once_with_shapes_before_addresses_before_the_enqueue(rig):
    sample, slot = rows(2), rows(2, 100)
    result, kept = rig.run([sample, slot])
    assert torch.equal(result, sample + slot)
    assert torch.equal(kept, 2 * sample)
    assert rig.calls == [
        ("context",),
        ("shape", "sample", (2, 4)),
        ("shape", "slot", (2, 4)),
        ("infer",),
        ("address", "sample", sample.data_ptr()),
        ("address", "slot", slot.data_ptr()),
        ("address", "result", result.data_ptr()),
        ("address", "kept", kept.data_ptr()),
        ("execute", 7),
    ]


def test_a_slot_is_bound_where_it_lies_and_what_is_kept_is_fresh_memory(rig):
    slot = rows(2)
    kept = [rig.run([rows(2, step), slot])[1] for step in range(3)]
    assert {call[2] for call in rig.calls if call[:2] == ("address", "slot")} == {slot.data_ptr()}
    assert len({tensor.data_ptr() for tensor in (slot, *kept)}) == 4
    assert [torch.equal(tensor, 2 * rows(2, step)) for step, tensor in enumerate(kept)] == [True] * 3


def test_only_addresses_that_changed_are_set_again(rig):
    sample, slot = rows(2), rows(2)
    held = rig.run([sample, slot])
    rig.calls.clear()
    also_held = rig.run([sample, slot])
    assert rig.names() == ["address", "address", "execute"]  # the two outputs
    assert held[0].data_ptr() != also_held[0].data_ptr()


def at_the_same_addresses(rig: Rig, sample: Tensor, slot: Tensor, outputs: list[Tensor]) -> tuple[Tensor, ...]:
    rig.device.pool = list(outputs)
    found: tuple[Tensor, ...] = rig.run([sample, slot])
    return found


def test_what_recurs_at_the_same_addresses_is_recorded_once_and_then_replayed(rig):
    sample, slot, outputs = rows(2), rows(2), [torch.empty(2, 4), torch.empty(2, 4)]
    at_the_same_addresses(rig, sample, slot, outputs)
    rig.calls.clear()
    at_the_same_addresses(rig, sample, slot, outputs)
    assert rig.names() == ["capturable", "capture", "execute", "replay"]
    for step in range(3):
        sample.fill_(step)
        result, kept = at_the_same_addresses(rig, sample, slot, outputs)
        assert rig.names() == ["replay"]
        assert torch.equal(result, step + rows(2))
        assert torch.equal(kept, torch.full((2, 4), 2.0 * step))


def test_a_ring_that_rotates_is_recorded_once_for_each_place(rig):
    buffers = [rows(2, 10 * number) for number in range(3)]
    sample, result = rows(2), torch.empty(2, 4)
    for step in range(12):
        at_the_same_addresses(rig, sample, buffers[step % 3], [result, buffers[(step + 1) % 3]])
    names = rig.names()
    assert names.count("capture") == 3
    assert names.count("replay") == 9
    assert names.count("execute") == 6  # three of them into recordings
    assert torch.equal(buffers[0], 2 * sample)


def test_other_shapes_end_all_recordings(rig):
    sample, slot, outputs = rows(2), rows(2), [torch.empty(2, 4), torch.empty(2, 4)]
    for _ in range(3):
        at_the_same_addresses(rig, sample, slot, outputs)
    rig.run([rows(3), rows(3)])
    rig.calls.clear()
    at_the_same_addresses(rig, sample, slot, outputs)
    assert rig.names()[:3] == ["shape", "shape", "infer"]
    at_the_same_addresses(rig, sample, slot, outputs)
    assert "capture" in rig.names()


@pytest.mark.parametrize("how", ["not asked for", "not capturable", "nobody can tell"])
def test_nothing_is_recorded_that_cannot_be(tmp_path, how):
    rig = Rig(tmp_path, rtx=how != "nobody can tell", capture=how != "not asked for")
    rig.engine.refuses = "capturable" if how == "not capturable" else ""
    sample, slot, outputs = rows(2), rows(2), [torch.empty(2, 4), torch.empty(2, 4)]
    for _ in range(4):
        at_the_same_addresses(rig, sample, slot, outputs)
    names = rig.names()
    assert names.count("execute") == 4
    assert "capture" not in names


def test_recordings_are_bounded_and_the_one_not_used_for_longest_goes(rig):
    sample, slot = rows(2), rows(2)
    sets = [[torch.empty(2, 4), torch.empty(2, 4)] for _ in range(17)]
    for outputs in [*sets, *sets]:
        at_the_same_addresses(rig, sample, slot, outputs)
    assert rig.names().count("capture") == 17
    at_the_same_addresses(rig, sample, slot, sets[-1])
    assert rig.names() == ["replay"]
    at_the_same_addresses(rig, sample, slot, sets[0])
    assert "capture" in rig.names()


def test_the_first_profile_that_holds_the_batch_serves_it_in_a_context_of_its_own(tmp_path):
    rig = Rig(tmp_path, ranges=((1, 1), (2, 8)))
    for batch in (1, 4, 1, 2):
        result, _ = rig.run([rows(batch), rows(batch)])
        assert torch.equal(result, 2 * rows(batch))
    assert [call for call in rig.calls if call[0] == "profile"] == [("profile", 0, 7), ("profile", 1, 7)]
    assert [call[0] for call in rig.calls].count("context") == 2


def test_another_stream_waits_for_the_last_one(rig):
    rig.run([rows(2), rows(2)])
    rig.run([rows(2), rows(2)])
    assert "wait" not in rig.names()
    rig.device.current = 8
    rig.run([rows(2), rows(2)])
    assert rig.calls[0] == ("wait", ("mark", 7), 8)


def test_threads_take_turns_and_each_gets_its_own_result(rig):
    wrong: list[int] = []

    def work(number: int) -> None:
        for step in range(20):
            sample, slot = rows(2, number), rows(2, step)
            result, _ = rig.run([sample, slot])
            if not torch.equal(result, sample + slot):
                wrong.append(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


@pytest.mark.parametrize("batch", [0, 9])
def test_a_batch_outside_every_profile_is_refused_with_those_there_are(rig, batch):
    with pytest.raises(EngineError, match=rf"sample is \({batch}, 4\), and it takes \(1, 4\) to \(8, 4\)"):
        rig.run([rows(batch), rows(batch)])
    assert rig.calls == []


@pytest.mark.parametrize(
    "sample",
    [torch.zeros(2, 5), torch.zeros(2, 4, 1), torch.zeros(4), torch.zeros(2, 4, dtype=torch.float16)],
    ids=["width", "more axes", "fewer axes", "dtype"],
)
def test_a_tensor_of_another_form_is_refused_by_name(rig, sample):
    with pytest.raises(EngineError, match=r"takes sample as torch.float32 of shape \(-1, 4\)"):
        rig.run([sample, rows(2)])


def test_a_tensor_that_is_elsewhere_is_refused(rig):
    with pytest.raises(EngineError, match="slot is on meta"):
        rig.run([rows(2), torch.zeros(2, 4, device="meta")])


@pytest.mark.parametrize("call", ["context", "shape", "infer", "address", "execute"])
def test_what_the_library_refuses_is_an_error_and_the_next_call_starts_anew(rig, call):
    rig.engine.refuses = call
    with pytest.raises(EngineError):
        rig.run([rows(2), rows(2)])
    rig.engine.refuses = ""
    result, _ = rig.run([rows(2), rows(2)])
    assert torch.equal(result, 2 * rows(2))


def test_an_executable_answers_like_those_of_other_backends(rig):
    assert rig.run.inputs == GIVEN
    assert rig.run.outputs == OUTPUTS
    assert rig.run.version() == rig.run.version()


@pytest.mark.parametrize("names", [("sample", "other"), ("sample",), (*INPUTS, "third")])
def test_a_plan_of_another_program_is_refused(rig, names):
    loaded = load_engine(rig.plan, rig.library, rig.device)
    with pytest.raises(EngineError, match="not those of its program"):
        PlanExecutable(loaded, [Input(name, "slot") for name in names], OUTPUTS, rig.device)


@pytest.mark.parametrize("data", [b"", b"a pla", b"a plan!", b"another"])
def test_bytes_that_the_manifest_does_not_vouch_for_are_not_run(rig, tmp_path, data):
    with pytest.raises(EngineError, match="not the plan that its manifest vouches for"):
        load_engine(a_plan(tmp_path, data), rig.library, rig.device)


def test_a_plan_that_is_gone_is_an_error(rig, tmp_path):
    plan = a_plan(tmp_path)
    plan.path.unlink()
    with pytest.raises(EngineError, match="cannot be read"):
        load_engine(plan, rig.library, rig.device)


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"version": "1.8.0.1"}, "built by TensorRT-RTX 1.8.0.1, and TensorRT-RTX 1.7.1.116 is installed"),
        ({"library": "TensorRT"}, "built by TensorRT 1.7.1.116, and TensorRT-RTX"),
        ({"capability": "sm86"}, r"built for sm86, and this GPU is sm89(.|\n)*tensorrt:sm89"),
    ],
)
def test_a_plan_of_another_library_or_gpu_is_refused_before_it_is_read(rig, tmp_path, said, message):
    with pytest.raises(EngineError, match=message):
        load_engine(a_plan(tmp_path, b"not even read", **said), rig.library, rig.device)


def test_what_the_library_says_against_a_plan_is_said(rig):
    bad = Library("TensorRT-RTX", "1.7.1.116", fake_library(rig.engine, validity=(Validity.INVALID, 3)))
    with pytest.raises(EngineError, match="VERSION_MISMATCH, UNSUPPORTED_CC"):
        load_engine(rig.plan, bad, rig.device)
    silent = Library("TensorRT-RTX", "1.7.1.116", fake_library(None, validity=None))
    with pytest.raises(EngineError, match=r"refuses compute.plan(.|\n)*ERROR: the plan is not to its taste"):
        load_engine(rig.plan, silent, rig.device)


@pytest.mark.parametrize(("attribute", "value"), [("dtype", "FP4"), ("location", "HOST")])
def test_an_engine_with_tensors_that_torch_cannot_give_is_refused(rig, attribute, value):
    setattr(rig.engine, attribute, value)
    with pytest.raises(EngineError, match="sample"):
        load_engine(rig.plan, rig.library, rig.device)


@pytest.mark.skipif(torch.cuda.is_available(), reason="says what happens without a CUDA device")
def test_without_a_gpu_it_is_said_what_runs_there():
    with pytest.raises(EngineError, match=r"there is none(.|\n)*backend='onnxruntime'"):
        find_device()
