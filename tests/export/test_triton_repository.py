"""A repository on disk: what is in it, that it serves what it was made of, and that half of one is never left."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from fouriercache.errors import LoweringError, TargetError
from fouriercache.export.tensorrt import Profile, build_plan, plan_facts, target_from_name
from fouriercache.export.triton import Served, write_repository
from tests.export import models
from tests.export.triton_schema import parse_config

pytestmark = pytest.mark.ort

STEPS = [
    {"mode": "compute", "inputs": {}, "sequence_inputs": {"coefficients": [0.0, 0.0], "refresh": [True]}},
    {"mode": "reuse", "inputs": {"coefficients": [1.5, -0.5]},
     "sequence_inputs": {"coefficients": [1.5, -0.5], "refresh": [False]}},
]  # fmt: skip


@pytest.fixture
def served(tmp_path: Path) -> Served:
    """Two modes over one weight file, and the whole step."""
    compute = models.mlp(tmp_path / "compute.onnx")
    reuse = tmp_path / "reuse.onnx"
    reuse.write_bytes(compute.read_bytes())
    return Served(
        "tiny",
        {"compute": compute, "reuse": reuse},
        models.step(tmp_path / "step.onnx"),
        {"kept": ["slot_0_0", "slot_0_1"]},
        {},
        STEPS,
        {"method": "TaylorSeer"},
    )


def test_every_model_has_a_configuration_that_names_what_its_graph_has(served, tmp_path):
    write_repository(served, tmp_path / "repository", kind="cpu", instances=3)
    folders = {path.name for path in (tmp_path / "repository").iterdir() if path.is_dir()}
    assert folders == {"tiny", "tiny_compute", "tiny_reuse"}
    for name in folders:
        config = parse_config((tmp_path / "repository" / name / "config.pbtxt").read_text())
        session = onnxruntime.InferenceSession(
            tmp_path / "repository" / name / "1" / config.default_model_filename, providers=["CPUExecutionProvider"]
        )
        states = config.sequence_batching.state
        assert config.name == name
        assert [*(t.name for t in config.input), *(s.input_name for s in states)] == [
            *(t.name for t in session.get_inputs() if not t.name.startswith("slot")),
            *(t.name for t in session.get_inputs() if t.name.startswith("slot")),
        ]
        assert {t.name for t in session.get_outputs()} == {
            *(t.name for t in config.output),
            *(s.output_name for s in states),
        }
        assert all(list(t.dims) for t in config.input)


def test_a_mode_computes_what_its_file_computes(served, tmp_path):
    write_repository(served, tmp_path / "repository")
    x = np.random.default_rng(0).standard_normal((3, 16), dtype=np.float32)
    want, have = (
        onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"]).run(None, {"x": x})[0]
        for path in (served.modes["reuse"], tmp_path / "repository" / "tiny_reuse" / "1" / "model.onnx")
    )
    np.testing.assert_array_equal(have, want)


def test_a_weight_file_that_modes_share_lies_on_disk_once(served, tmp_path):
    write_repository(served, tmp_path / "repository")
    name = "compute.onnx.data"
    files = [tmp_path / "repository" / model / "1" / name for model in ("tiny_compute", "tiny_reuse")]
    assert os.path.samefile(*files)
    assert not os.path.samefile(files[0], served.modes["compute"].with_name(name))  # the bundle keeps its own


def test_the_schedule_is_a_table_of_what_each_step_runs(served, tmp_path):
    write_repository(served, tmp_path / "repository", profile=Profile(2, 4, 8))
    table = json.loads((tmp_path / "repository" / "schedule.json").read_text())
    assert table["steps"] == STEPS
    assert table["models"] == {"compute": "tiny_compute", "reuse": "tiny_reuse"}
    assert (table["sequence_model"], table["sequence_batch"]) == ("tiny", 4)
    assert table["method"] == "TaylorSeer"
    page = (tmp_path / "repository" / "README.md").read_text()
    assert all(word in page for word in ("tiny_compute", "slot_0_0", "kept", "schedule.json", "sequence id"))


def test_without_the_whole_step_nothing_is_said_of_sequences(served, tmp_path):
    write_repository(replace(served, step=None), tmp_path / "repository")
    assert json.loads((tmp_path / "repository" / "schedule.json").read_text())["sequence_model"] is None
    assert "sequence id" not in (tmp_path / "repository" / "README.md").read_text()
    assert not (tmp_path / "repository" / "tiny").exists()


def test_plans_are_built_where_they_run_from_the_files_in_the_repository(served, tmp_path):
    folder = tmp_path / "repository"
    write_repository(served, folder, runner="tensorrt", profile=Profile(1, 2, 4))
    tools = tmp_path / "tools"
    tools.mkdir()
    said = tmp_path / "said.txt"
    (tools / "trtexec").write_text(
        "#!/bin/sh\n"
        f'echo "$@" >> {said}\n'
        'for word; do case $word in --saveEngine=*) echo plan > "${word#*=}";; esac; done\n'
    )
    (tools / "trtexec").chmod(0o755)
    path = os.pathsep.join([str(tools), os.environ["PATH"]])
    subprocess.run(["sh", str(folder / "build_plans.sh")], check=True, env={**os.environ, "PATH": path}, cwd=tmp_path)
    lines = said.read_text().splitlines()
    assert len(lines) == 3
    assert "--minShapes=x:1x16 --optShapes=x:2x16 --maxShapes=x:4x16" in lines[0]
    assert "--minShapes" not in lines[2]  # a sequence has one batch
    for name in ("tiny", "tiny_compute", "tiny_reuse"):
        config = parse_config((folder / name / "config.pbtxt").read_text())
        assert (config.backend, config.default_model_filename) == ("tensorrt", "model.plan")
        assert (folder / name / "1" / "model.plan").read_text() == "plan\n"
        assert (folder / name / "onnx" / "model.onnx").is_file()


@pytest.mark.trt
def test_tensorrt_takes_the_graphs_of_a_repository(served, tmp_path):
    folder = tmp_path / "repository"
    write_repository(served, folder, runner="tensorrt")
    for name in ("tiny", "tiny_compute"):
        path = tmp_path / f"{name}.plan"
        plan = build_plan(folder / name / "onnx" / "model.onnx", path, target_from_name("tensorrt:sm89"))
        config = parse_config((folder / name / "config.pbtxt").read_text())
        tensors = {tensor.name: list(tensor.shape) for tensor in (*plan.inputs, *plan.outputs)}
        assert all(tensors[tensor.name] == list(tensor.dims) for tensor in (*config.input, *config.output))
        assert plan_facts(path).host_branches == (1 if name == "tiny" else 0)


def test_a_folder_that_holds_something_is_left_alone(served, tmp_path):
    (tmp_path / "repository").mkdir()
    (tmp_path / "repository" / "mine.txt").write_text("mine")
    with pytest.raises(TargetError, match="folder of its own"):
        write_repository(served, tmp_path / "repository")
    assert [path.name for path in (tmp_path / "repository").iterdir()] == ["mine.txt"]


def test_a_folder_that_is_empty_is_taken(served, tmp_path):
    (tmp_path / "repository").mkdir()
    write_repository(served, tmp_path / "repository")
    assert (tmp_path / "repository" / "schedule.json").is_file()


@pytest.mark.parametrize(
    "options",
    [
        {"runner": "pytorch"},
        {"kind": "tpu"},
        {"kind": "cpu", "runner": "tensorrt"},
        {"kind": "cpu", "accelerator": {}},
        {"runner": "tensorrt", "accelerator": {}},
        {"instances": 0},
        {"instances": True},
    ],
)
def test_options_that_do_not_fit_are_refused(served, tmp_path, options):
    with pytest.raises(TargetError):
        write_repository(served, tmp_path / "repository", **options)
    assert not (tmp_path / "repository").exists()


def test_what_cannot_be_written_leaves_nothing(served, tmp_path):
    served.modes["compute"].with_name("compute.onnx.data").unlink()
    before = sorted(tmp_path.iterdir())
    with pytest.raises(LoweringError, match=r"could not be written(.|\n)*compute.onnx.data"):
        write_repository(served, tmp_path / "repository")
    assert sorted(tmp_path.iterdir()) == before


def test_a_step_that_does_not_have_the_state_is_refused_and_leaves_nothing(served, tmp_path):
    with pytest.raises(LoweringError, match="has no other"):
        write_repository(replace(served, columns={"other": ["slot_0_0"]}), tmp_path / "repository")
    assert not (tmp_path / "repository").exists()
