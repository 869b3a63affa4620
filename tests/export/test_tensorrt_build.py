"""Plans are really built, for a GPU that is not there; a build that goes wrong says why, and leaves nothing."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import helper

from fouriercache.errors import LoweringError, TargetError
from fouriercache.export.tensorrt import PlanCache, Profile, build_plan, target_from_name, worker
from tests.export import models

pytestmark = pytest.mark.trt

SM89 = target_from_name("tensorrt:sm89")


@pytest.fixture
def destination(tmp_path: Path) -> Path:
    (tmp_path / "out").mkdir()
    return tmp_path / "out" / "model.plan"


def test_builds_a_plan_for_a_gpu_that_is_not_there_and_says_what_it_is(tmp_path, destination):
    seen: list[float] = []
    plan = build_plan(
        models.mlp(tmp_path / "mlp.onnx"), destination, SM89, notice=lambda doing, share: seen.append(share)
    )
    assert plan.bytes == destination.stat().st_size
    assert [tensor.name for tensor in (*plan.inputs, *plan.outputs)] == ["x", "y"]
    assert plan.inputs[0].shape == (-1, 16)
    assert plan.profiles == ((1, 2, 8),)
    assert plan.library == "TensorRT-RTX"
    assert (plan.target, plan.capability) == ("tensorrt:sm89", "sm89")
    assert plan.weight_bytes is not None and 4096 <= plan.weight_bytes < 8192  # noqa: PT018 - one range
    assert seen and seen == sorted(seen) and seen[-1] <= 1  # noqa: PT018 - one claim about progress
    assert list(destination.parent.iterdir()) == [destination]


def test_a_plan_is_the_same_bytes_from_another_process(tmp_path, destination):
    onnx = models.mlp(tmp_path / "mlp.onnx")
    first = build_plan(onnx, destination, SM89)
    again = build_plan(onnx, destination, SM89)
    assert first.sha256 == again.sha256


def test_a_fixed_batch_needs_no_profile(tmp_path, destination):
    plan = build_plan(models.mlp(tmp_path / "mlp.onnx", batch=2), destination, SM89, profiles=[Profile(1, 2, 4)])
    assert plan.profiles == ()
    assert plan.inputs[0].shape == (2, 16)


def test_several_profiles_are_all_in_the_plan(tmp_path, destination):
    ranges = [Profile(1, 1, 1), Profile(2, 4, 8)]
    plan = build_plan(models.mlp(tmp_path / "mlp.onnx"), destination, SM89, profiles=ranges)
    assert plan.profiles == ((1, 1, 1), (2, 4, 8))


def test_an_operator_that_tensorrt_lacks_is_shown_with_node_and_cause(tmp_path, destination):
    with pytest.raises(LoweringError, match=r"does not take model.onnx") as refused:
        build_plan(models.spectrum(tmp_path / "model.onnx"), destination, SM89)
    assert "node: transform_0 (DFT), number 0" in str(refused.value)
    assert "no operator DFT" in str(refused.value)
    assert list(destination.parent.iterdir()) == []


def test_every_node_that_is_not_taken_is_shown_once(tmp_path, destination):
    with pytest.raises(LoweringError) as refused:
        build_plan(models.spectrum(tmp_path / "model.onnx", transforms=3), destination, SM89)
    assert [str(refused.value).count(f"transform_{number} ") for number in range(3)] == [1, 1, 1]


def test_sizes_that_are_not_the_batch_are_refused_by_name(tmp_path, destination):
    node = helper.make_node("Add", ["x", "x"], ["y"], name="twice")
    onnx = models.save(tmp_path / "model.onnx", [node], {}, x=["batch", "width"], y=["batch", "width"])
    with pytest.raises(LoweringError, match=r"batch, width(.|\n)*input x: \(-1, -1\)"):
        build_plan(onnx, destination, SM89)


def test_the_batch_may_stand_behind_other_axes_of_other_inputs(tmp_path, destination):
    node = helper.make_node("Add", ["x", "h"], ["y"], name="sum")
    shapes: dict[str, list[int | str]] = {"x": ["batch", 16], "h": [3, "batch", 16], "y": [3, "batch", 16]}
    plan = build_plan(models.save(tmp_path / "model.onnx", [node], {}, **shapes), destination, SM89)
    assert [given.shape for given in plan.inputs] == [(-1, 16), (3, -1, 16)]
    assert plan.profiles == ((1, 2, 8),)


def test_other_open_sizes_take_the_ranges_that_are_said(tmp_path, destination):
    node = helper.make_node("Add", ["x", "x"], ["y"], name="twice")
    onnx = models.save(tmp_path / "model.onnx", [node], {}, x=["batch", "width"], y=["batch", "width"])
    plan = build_plan(onnx, destination, SM89, sizes={"width": (1, 8, 16)})
    assert plan.profiles == ((1, 2, 8),)
    onnx = models.save(tmp_path / "model.onnx", [node], {}, x=[2, "width"], y=[2, "width"])
    assert build_plan(onnx, destination, SM89, sizes={"width": (1, 8, 16)}).profiles == ()


@pytest.mark.parametrize("cached", [False, True])
def test_weights_that_are_not_there_are_named(tmp_path, destination, cached):
    onnx = models.mlp(tmp_path / "mlp.onnx")
    onnx.with_name("mlp.onnx.data").unlink()
    with pytest.raises(LoweringError, match=r"mlp.onnx(.|\n)*(w0|mlp.onnx.data)"):
        build_plan(onnx, destination, SM89, cache=PlanCache(tmp_path / "cache") if cached else None)


@pytest.mark.parametrize("cached", [False, True])
def test_a_file_that_is_no_onnx_is_refused(tmp_path, destination, cached):
    onnx = tmp_path / "model.onnx"
    onnx.write_bytes(models.mlp(tmp_path / "mlp.onnx").read_bytes()[:-40] + bytes(range(30)))
    with pytest.raises(LoweringError, match=r"model.onnx"):
        build_plan(onnx, destination, SM89, cache=PlanCache(tmp_path / "cache") if cached else None)
    with pytest.raises(LoweringError, match="there is no ONNX file"):
        build_plan(tmp_path / "none.onnx", destination, SM89)


def test_options_that_make_no_sense_are_refused(tmp_path, destination):
    onnx = models.mlp(tmp_path / "mlp.onnx")
    with pytest.raises(TargetError, match="at least one profile"):
        build_plan(onnx, destination, SM89, profiles=[])
    with pytest.raises(TargetError, match="0 to 5"):
        build_plan(onnx, destination, SM89, level=6)


def test_a_full_disk_is_an_error_that_leaves_nothing(tmp_path, destination):
    onnx = models.mlp(tmp_path / "mlp.onnx")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**14, hard))  # the worker inherits it, and its plan is larger
    try:
        with pytest.raises(LoweringError, match=r"could not be written(.|\n)*nothing half-written"):
            build_plan(onnx, destination, SM89)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list(destination.parent.iterdir()) == []


def test_a_folder_that_is_not_there_is_an_error(tmp_path):
    with pytest.raises(LoweringError, match="could not be written"):
        build_plan(models.mlp(tmp_path / "mlp.onnx"), tmp_path / "none" / "model.plan", SM89)


def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str) -> None:
    """Let another script do the worker's job."""
    script = tmp_path / "stand_in.py"
    script.write_text(source)
    monkeypatch.setattr(worker, "__file__", str(script))


def test_a_build_that_crashes_is_an_error_with_the_end_of_its_log(tmp_path, destination, monkeypatch):
    stand_in(tmp_path, monkeypatch, """
import json, os, signal, sys
sys.stdin.readline()
print(json.dumps({"event": "log", "severity": "INFO", "text": "half of it is done"}), flush=True)
print("a native library complains", file=sys.stderr, flush=True)
os.kill(os.getpid(), signal.SIGSEGV)
""")  # fmt: skip
    with pytest.raises(LoweringError, match="SIGSEGV") as refused:
        build_plan(models.mlp(tmp_path / "mlp.onnx"), destination, SM89)
    assert "half of it is done" in str(refused.value)
    assert "a native library complains" in str(refused.value)
    assert list(destination.parent.iterdir()) == []


def test_a_build_that_takes_too_long_is_ended(tmp_path, destination, monkeypatch):
    stand_in(tmp_path, monkeypatch, "import time\ntime.sleep(600)")
    with pytest.raises(LoweringError, match=r"longer than 0\.2 seconds"):
        build_plan(models.mlp(tmp_path / "mlp.onnx"), destination, SM89, timeout=0.2)
    assert list(destination.parent.iterdir()) == []


def test_a_notice_that_raises_ends_the_build(tmp_path, destination):
    def interrupt(doing: str, share: float) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build_plan(models.mlp(tmp_path / "mlp.onnx"), destination, SM89, notice=interrupt)
    assert list(destination.parent.iterdir()) == []


def test_a_worker_ends_when_whoever_asked_is_gone(tmp_path):
    plan = tmp_path / "model.plan"
    job = {"module": "tensorrt_rtx_bindings", "onnx": str(models.mlp(tmp_path / "mlp.onnx")), "plan": str(plan),
           "capability": "SM89", "profiles": [[1, 2, 4]], "sizes": {}, "level": 3}  # fmt: skip
    command = [sys.executable, "-P", worker.__file__]
    ended = subprocess.run(command, input=json.dumps(job) + "\n", capture_output=True, text=True, check=False)
    assert ended.returncode == 70
    assert not plan.exists()


@given(st.lists(st.tuples(st.sampled_from("abcd"), st.sampled_from("abcd"), st.integers(1, 5)), max_size=30))
def test_progress_never_goes_back_and_stays_in_range(moves):
    phases = worker.Phases()
    last = 0.0
    for number, (name, other, count) in enumerate(moves):
        if number % 3 == 0:
            phases.start(name, other if other < name else None, count)
        elif number % 3 == 1:
            phases.step(name, count - 1)
        else:
            phases.finish(name)
        assert last <= phases.share <= 1
        last = phases.share
