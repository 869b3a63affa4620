"""Goldens of bundles: what is shipped, read from the files alone; and `fouriercache check` of a bundle's folder."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

import fouriercache as fc
from fouriercache import cli
from fouriercache.bundle.folder import read_folder
from fouriercache.bundle.manifest import Manifest, read_manifest
from fouriercache.errors import BundleError
from fouriercache.testing import GraphMismatch, assert_graph_matches
from fouriercache.testing.bundles import golden_of_bundle
from fouriercache.testing.golden import read_golden

pytestmark = pytest.mark.ort


def run(*words: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(cli.app, ["check", *words], env={"COLUMNS": "200", "NO_COLOR": "1"})
    return result.exit_code, result.stdout, result.stderr


def inspect(*words: str) -> Result:
    return CliRunner().invoke(cli.app, ["inspect", *words], env={"COLUMNS": "200", "NO_COLOR": "1"})


@pytest.fixture
def copy(bundle: Path, tmp_path: Path) -> Path:
    return shutil.copytree(bundle, tmp_path / "copy")


def test_a_golden_of_a_bundle_holds_and_is_read_back(bundle: Path, tmp_path: Path):
    path = tmp_path / "bundle.txt"
    assert assert_graph_matches(bundle, path, update=True)
    assert not assert_graph_matches(str(bundle), path)
    assert not assert_graph_matches(fc.load(bundle), path)
    assert read_golden(path).text() == path.read_text()


def test_counts_the_operators_that_onnx_itself_lists(bundle: Path, manifest: Manifest):
    import onnx

    golden = golden_of_bundle(bundle)
    whole = manifest.forms[0].modes[0].parts.whole
    model = onnx.load(bundle / whole.file, load_external_data=False)
    section = golden.sections["compute, whole"]
    assert section.facts["operators"] == str(len(model.graph.node))
    attention = sum(node.op_type == "Softmax" for node in model.graph.node)
    assert f"Softmax {attention}" in section.parts["operators"]
    assert "If 1" in golden.sections["single graph"].parts["operators"]
    assert golden.head["weights"].endswith(f"{(bundle / 'weights.bin').stat().st_size:,} bytes")


def test_names_the_callers_inputs_and_counts_what_is_kept(bundle: Path):
    section = golden_of_bundle(bundle).sections["reuse, whole"]
    assert "sample hidden_states: float32 [batch,3,8,8]" in section.parts["inputs"]
    assert "slot x 2: float32 [batch,16,16]" in section.parts["inputs"]


def test_facts_of_plans_are_a_section_of_their_target(bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    facts = dict.fromkeys(("inputs", "outputs", "copies", "gemms", "fused_attention", "kernels", "weight_bytes"), 3)
    entry = {"file": "x.plan", "facts": {**facts, "capturable": True, "host_branches": 0}}
    with_plans(monkeypatch, {"tensorrt:sm89": {"compute.moving.onnx": entry, "probe.onnx": {"facts": None}}})
    section = golden_of_bundle(bundle).sections["plans of tensorrt:sm89"]
    assert section.parts["compute.moving.onnx"][:3] == ("inputs 3", "outputs 3", "capturable True")
    assert section.parts["probe.onnx"] == ("not known for this version",)
    assert_graph_matches(bundle, tmp_path / "bundle.txt", update=True)
    entry["facts"] = {**facts, "capturable": False, "host_branches": 1}
    with pytest.raises(GraphMismatch, match=r"plans of tensorrt:sm89: compute.moving.onnx reads otherwise"):
        assert_graph_matches(bundle, tmp_path / "bundle.txt")


def with_plans(monkeypatch: pytest.MonkeyPatch, plans: dict[str, object]) -> None:
    monkeypatch.setattr(
        "fouriercache.testing.bundles.read_folder", lambda folder: replace(read_folder(folder), plans=plans)
    )


FACTS = {
    "version": "1.7.1.116", "accelerators": ["sm89"], "inputs": 3, "outputs": 1, "weight_bytes": 64, "capturable": True,
    "host_branches": 0, "copies": 1, "shape_copies": 0, "gemms": 1, "fused_attention": 1, "kernels": 2,
}  # fmt: skip
BUILT = {"library": "TensorRT-RTX", "version": "1.7.1.116", "capability": "sm89"}
PLAN = {"file": "weights.bin", "plan": BUILT, "facts": FACTS}
GRAPH = "reuse.moving.onnx"


@pytest.mark.parametrize(
    ("entries", "place"),
    [
        (5, "tensorrt:sm89 should be an object"),
        ({}, "tensorrt:sm89 names no plan"),
        ({GRAPH: {"file": "weights.bin", "plan": BUILT}}, f"tensorrt:sm89.{GRAPH} lacks facts"),
        ({GRAPH: {**PLAN, "facts": {"gemms": 1}}}, f"{GRAPH}.facts lacks accelerators"),
        ({GRAPH: {**PLAN, "facts": {**FACTS, "gemms": "1"}}}, f"{GRAPH}.facts.gemms should be int"),
        ({GRAPH: {**PLAN, "plan": {}}}, f"{GRAPH}.plan.library should be str"),
        ({GRAPH: {**PLAN, "file": "nowhere.plan"}}, "no checksum for 'nowhere.plan'"),
        ({"other.onnx": PLAN}, "no such graph"),
    ],
)
def test_plans_in_a_manifest_are_of_the_form_that_an_export_writes_or_refused(manifest: Manifest, entries, place):
    sound = replace(manifest, plans={"tensorrt:sm89": {GRAPH: PLAN, "compute.moving.onnx": {**PLAN, "facts": None}}})
    assert read_manifest(sound.text()) == sound
    with pytest.raises(BundleError, match=place):
        read_manifest(replace(manifest, plans={"tensorrt:sm89": entries}).text())


def test_a_forged_plan_shows_in_every_command_with_where_and_what_to_do(copy: Path, manifest: Manifest):
    (copy / "manifest.json").write_text(replace(manifest, plans={"tensorrt:sm89": 5}).text())
    code, out, err = run(str(copy), "--json")
    assert code == 1
    assert json.loads(out)[0]["differences"][0] in err
    assert f"sm89 should be an object, and is 5.\n  where: {copy}\n  Copy the bundle again" in err
    assert run(str(copy), "--update")[0] == 2, "there is nothing to update in a bundle"
    inspected = inspect(str(copy))
    assert (inspected.exit_code, inspected.stdout) == (1, "")
    assert inspected.stderr in err
    with pytest.raises(BundleError, match="should be an object"):
        fc.load(copy)


def test_check_finds_a_sound_bundle_and_a_broken_one(bundle: Path, copy: Path, tmp_path: Path):
    code, out, err = run(str(bundle))
    assert (code, out) == (0, "")
    assert f"sound      {bundle}" in err
    weights = copy / "weights.bin"
    weights.write_bytes(weights.read_bytes()[:-1])
    code, out, err = run(str(copy), str(bundle), "--json")
    assert code == 1
    assert [item["same"] for item in json.loads(out)] == [False, True]
    assert "weights.bin has" in err
    with pytest.raises(BundleError, match=r"weights.bin has"):
        assert_graph_matches(copy, tmp_path / "bundle.txt", update=True)


def test_inspect_says_what_a_bundle_ships(bundle: Path, tmp_path: Path):
    found = inspect(str(bundle))
    assert (found.exit_code, found.stdout) == (0, golden_of_bundle(bundle).text())
    found = inspect(str(bundle), "--json")
    assert found.exit_code == 0
    assert "If 1" in json.loads(found.stdout)["sections"]["single graph"]["operators"]
    for words in (
        ("--program", "reuse"),
        ("--method", "FORA"),
        ("--steps", "50"),
        ("--batch", "2", "--device", "h200"),
    ):
        result = inspect(str(bundle), *words)
        assert (result.exit_code, result.stdout) == (2, "")
        assert all(word in result.stderr for word in ("Leave out", *words[::2])), "nothing typed is left unread"
    for more in ([], ["--method", "FORA"]):
        result = inspect(str(tmp_path), *more)
        assert result.exit_code == 1  # as check has it
        assert "holds no bundle" in result.stderr
    for word in (f"{tmp_path}/nosuch/", str(bundle / "manifest.json"), str(bundle / "compute.moving.onnx")):
        result = inspect(word)
        assert result.exit_code == 2
        assert "a bundle is given by its folder" in result.stderr
        assert "nosuch" in word or f"fouriercache inspect {bundle}" in result.stderr.replace("\n", "")


@pytest.mark.parametrize("command", ["export", "optimize", "bench"])
def test_a_bundle_is_no_model(bundle: Path, command: str):
    result = CliRunner().invoke(cli.app, [command, str(bundle)], env={"COLUMNS": "200", "NO_COLOR": "1"})
    assert result.exit_code == 2
    assert f"{bundle} is a bundle, and no model" in result.stderr
    assert "Give the model it was exported from" in result.stderr


def test_check_refuses_a_folder_that_is_no_bundle(tmp_path: Path):
    code, _, err = run(str(tmp_path))
    assert code == 1
    assert "the folder holds no bundle" in err


@pytest.mark.parametrize("name", ["manifest.json", "compute.txt", "weights.bin"])
def test_check_says_of_a_bundles_file_which_folder_to_give(bundle: Path, name: str):
    for words in ((), ("--update",)):
        code, _, err = run(str(bundle / name), *words)
        assert code == 2
        assert f"given by its folder.\n  Run: fouriercache check {bundle}\n" in err
