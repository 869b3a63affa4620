"""What a plan says of itself, against what is known of the model it was built from."""

from __future__ import annotations

from pathlib import Path

import pytest

from fouriercache.errors import EngineError
from fouriercache.export.tensorrt import READABLE, build_plan, plan_facts, plan_version, target_from_name
from tests.export import models

pytestmark = pytest.mark.trt


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Plans of three models: mlp.plan, branch.plan, attention.plan."""
    folder = tmp_path_factory.mktemp("plans")
    for name, make in {"mlp": models.mlp, "branch": models.branch, "attention": models.attention}.items():
        build_plan(make(folder / f"{name}.onnx"), folder / f"{name}.plan", target_from_name("tensorrt:sm89"))
    return folder


def test_a_plan_without_branches_can_be_captured(folder):
    facts = plan_facts(folder / "mlp.plan")
    assert facts.capturable
    assert (facts.host_branches, facts.copies) == (0, 0)
    assert (facts.inputs, facts.outputs) == (1, 1)
    assert facts.gemms == 2
    assert facts.accelerators == ("sm89",)
    assert facts.version in READABLE


def test_one_if_is_one_branch_on_the_host_and_cannot_be_captured(folder):
    facts = plan_facts(folder / "branch.plan")
    assert not facts.capturable
    assert facts.host_branches == 1
    assert (facts.inputs, facts.outputs) == (2, 1)


def test_attention_is_one_kernel_a_layer(folder):
    facts = plan_facts(folder / "attention.plan")
    assert facts.fused_attention == 2
    assert facts.gemms == 0
    assert plan_facts(folder / "mlp.plan").fused_attention == 0


def test_a_plan_holds_each_weight_once(folder):
    stored = (folder / "mlp.onnx.data").stat().st_size
    assert stored <= plan_facts(folder / "mlp.plan").weight_bytes <= stored + 256  # a few scalars of its own


@pytest.mark.parametrize("gpu", ["sm86", "sm120"])
def test_the_same_plan_for_two_gpus_differs_in_what_it_was_built_for(folder, gpu):
    path = folder / f"{gpu}.plan"
    build_plan(folder / "mlp.onnx", path, target_from_name(f"tensorrt:{gpu}"))
    assert plan_facts(path).accelerators == (gpu,)


@pytest.mark.parametrize("length", [0, 40, 5000, -1])
def test_a_plan_that_was_cut_short_is_refused(folder, tmp_path, length):
    path = tmp_path / "cut.plan"
    path.write_bytes((folder / "mlp.plan").read_bytes()[:length])
    with pytest.raises(EngineError, match=r"cut short|is no plan"):
        plan_facts(path)


def test_another_file_is_no_plan(tmp_path):
    path = tmp_path / "foreign.plan"
    path.write_bytes(b"x" * 1000)
    with pytest.raises(EngineError, match="is no plan of TensorRT-RTX"):
        plan_version(path)


def test_a_plan_of_a_version_that_was_not_looked_at_is_not_guessed_at(folder, tmp_path):
    data = bytearray((folder / "mlp.plan").read_bytes())
    data[24:28] = bytes((1, 9, 0, 5))
    path = tmp_path / "newer.plan"
    path.write_bytes(data)
    assert plan_version(path) == "1.9.0.5"
    with pytest.raises(EngineError, match=r"built by TensorRT-RTX 1\.9\.0\.5(.|\n)*known for 1\.7\.1\.116"):
        plan_facts(path)


def test_a_plan_without_a_program_is_refused(folder, tmp_path):
    data = (folder / "mlp.plan").read_bytes().replace(b"stream_capturable=", b"stream_capturable-")
    path = tmp_path / "empty.plan"
    path.write_bytes(data)
    with pytest.raises(EngineError, match="holds no program"):
        plan_facts(path)
