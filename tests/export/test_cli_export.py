"""`fouriercache export`: what it writes, says, and refuses; the writing itself is tested where it is done."""

from __future__ import annotations

import json
import os
import re
import signal
from pathlib import Path
from typing import Any

import pytest
from torch import nn
from typer.testing import CliRunner, Result

import fouriercache as fc
from fouriercache import cli
from fouriercache.bundle.folder import read_folder, staged
from fouriercache.calibrations import describe_method
from fouriercache.cli import export as command
from fouriercache.fingerprints import fingerprint_weights
from fouriercache.models.examples import Example
from fouriercache.testing.bundle_loops import Difference
from tests.tiny import example

pytestmark = pytest.mark.ort

TINY = """
from fouriercache.models.examples import Example
from tests.tiny import labels, noise, step_inputs, tiny_dit


def build():
    return Example(tiny_dit(), step_inputs(noise(), 500, labels()))
"""


def run(*words: str) -> Result:
    return CliRunner().invoke(cli.app, ["export", *words], env={"COLUMNS": "100", "NO_COLOR": "1"})


def plain(text: str) -> str:
    return re.sub(r"\s+", " ", re.sub(r"\x1b\[[0-9;]*m", "", text))


@pytest.mark.trt
def test_writes_a_bundle_with_plans_and_a_repository_of_ones_own_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "mine.py").write_text(TINY)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FOURIERCACHE_PLANS", str(tmp_path / "plans"))
    words = ("--out", "bundle", "--steps", "6", "--target", "tensorrt:sm89", "--triton", "repository", "--json")
    result = run("mine:build", *words, "--batches", "2,2,4", "--no-single-graph")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    manifest = read_folder(tmp_path / "bundle")
    assert {name: file["sha256"] for name, file in found["files"].items()} == {
        name: file.sha256 for name, file in manifest.files.items()
    }
    assert all(facts["capturable"] for facts in found["plans"]["tensorrt:sm89"].values())
    assert (tmp_path / "repository" / "schedule.json").is_file()
    assert [(each["graphs"], each["is_met"]) for each in found["differences"]] == [("a graph for each mode", True)]
    assert "Wrote bundle" in result.stderr
    assert "sm89.reuse.moving.plan" in result.stderr


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Nothing is built or written; return what was asked for."""
    asked: list[Any] = []
    monkeypatch.setattr(command, "find_example", lambda *given: asked.append(given))
    return asked


@pytest.mark.parametrize("batches", ["1,2", "1,2,8,9", "a,b,c", "1,2,-8", ""])
def test_batches_that_are_no_three_sizes_are_bad_use(quick: list[Any], batches: str):
    result = run("--batches", batches)
    assert result.exit_code == 2
    assert "three whole numbers" in plain(result.stderr)
    assert quick == []


@pytest.mark.parametrize("batches", ["8,2,1", "0,2,8"])
def test_batches_that_are_in_no_order_are_bad_use_with_and_without_engines(quick: list[Any], batches: str):
    for words in (("--dry-run",), ("--triton", "tx")):
        result = run("--batches", batches, *words)
        assert result.exit_code == 2, result.output
        assert "least <= typical <= most" in plain(result.stderr)
    assert quick == []


def test_a_method_that_triton_cannot_serve_is_refused_before_any_work(quick: list[Any]):
    result = run("--method", "TeaCache", "--triton", "tx", "--dry-run")
    assert result.exit_code == 3, result.output
    assert "no table of steps" in plain(result.stderr)
    assert quick == []


def test_a_repository_is_not_written_into_a_folder_that_holds_something(quick: list[Any], tmp_path: Path):
    (tmp_path / "mine.txt").write_text("mine")
    result = run("--triton", str(tmp_path))
    assert result.exit_code == 2
    assert "folder of its own" in plain(result.stderr)
    assert quick == []


def test_folders_that_cannot_be_written_to_are_bad_use_before_any_work(quick: list[Any], tmp_path: Path):
    (tmp_path / "thesis.tex").write_text("years of work")
    found = [
        (run("--out", str(tmp_path)), "holds something else than a bundle"),
        (run("--out", str(tmp_path / "thesis.tex")), "is no folder"),
        (run("--out", str(tmp_path / "thesis.tex" / "bundle"), "--dry-run"), "is no folder"),
        (run("--triton", str(tmp_path / "thesis.tex")), "folder of its own"),
        (run("--triton", str(tmp_path / "thesis.tex" / "tx"), "--dry-run"), "is no folder"),
        (run("--out", str(tmp_path / "new"), "--triton", str(tmp_path / "new" / "triton")), "in the bundle's own"),
    ]
    for result, message in found:
        assert result.exit_code == 2, result.output
        assert message in plain(result.stderr).replace("│ ", "")
    assert quick == []
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_folder_that_may_not_be_written_to_is_bad_use(
    quick: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("fouriercache.bundle.folder.os.access", lambda path, mode: not mode & os.W_OK)
    result = run("--out", str(tmp_path / "bundle"), "--dry-run")
    assert result.exit_code == 2, result.output
    assert "may not be written to" in plain(result.stderr).replace("│ ", "")
    assert quick == []


def test_a_model_without_weights_is_refused_before_it_is_captured(tmp_path: Path):
    for words in ((), ("--dry-run",)):
        result = run("dit-xl-2@1", "--out", str(tmp_path / "new"), *words)
        assert result.exit_code == 3, result.output
        assert "weights have no values" in plain(result.stderr)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("target", ["tensorrt:sm90", "trt:sm89", "onnx:"])
def test_a_target_that_is_not_there_is_bad_use_and_says_which_are(quick: list[Any], target: str):
    result = run("--target", target)
    assert result.exit_code == 2
    assert "tensorrt:sm89" in plain(result.stderr)
    assert "tensorrt:current" in plain(result.stderr)
    assert quick == []


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--batches", "1,2,4"), "Leave out --batches"),
        (("--batches", "1,2,4", "--target", "onnx"), "Leave out --batches"),
        (("--triton-runner", "tensorrt"), "Leave out --triton-runner"),
        (("--method", "ToCa", "--site", "branch", "--single-graph"), "ToCa has no single graph"),
    ],
)
def test_an_option_that_nothing_would_read_is_bad_use(quick: list[Any], words: tuple[str, ...], message: str):
    result = run(*words, "--dry-run")
    assert result.exit_code == 2, result.output
    assert message in plain(result.stderr).replace("│ ", "")
    assert quick == []


def test_a_dry_run_says_what_would_be_written_and_writes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    result = run("--method", "TeaCache", "--dry-run", "--no-single-graph")
    assert result.exit_code == 0, result.output
    assert "compute, reuse, probe." in plain(result.stdout)
    words = ("--target", "onnx", "--triton", "tx", "--dry-run")
    result = run(*words)
    assert "compute, reuse, and all in one as step.onnx." in plain(result.stdout)
    assert "tx would have a model repository" in plain(result.stdout)
    found = json.loads(run(*words, "--json").stdout)
    assert (found["graphs"], found["single_graph"], found["triton"]) == (["compute", "reuse"], "step.onnx", "tx")
    assert json.loads(run("--method", "ToCa", "--dry-run", "--json").stdout)["single_graph"] is None
    assert list(tmp_path.iterdir()) == []


TIMESTEPS = (900.0, 700.0, 500.0, 400.0, 200.0, 100.0)
SCALARS = fc.Calibrated((0, 2, 5), ((((1.0,),),), (((1.5, -0.5),),), (((2.0, -1.0),),)))


@pytest.fixture(scope="module")
def model() -> str:
    """The fingerprint of the model that is exported."""
    return fingerprint_weights(example()[0])


def calibrated(folder: Path, method: fc.Method, model: str, scalars: fc.Calibrated | None = None) -> tuple[str, ...]:
    """The options of a calibration of 6 steps, which is written to a file."""
    path = folder / "made.safetensors"
    fc.Calibration(
        describe_method(method), len(TIMESTEPS), TIMESTEPS, model, None, steps=(0, 2, 5), scalars=scalars
    ).save(path)
    return ("--calibration", str(path), "--out", str(folder / "bundle"))


def test_a_dry_run_is_of_the_method_that_a_calibration_makes(tmp_path: Path, model: str):
    words = calibrated(tmp_path, fc.Tuned(), model, SCALARS)
    found = json.loads(run("tests.tiny:example", "--method", "Tuned", *words, "--dry-run", "--json").stdout)
    assert found["method"] == repr(fc.Tuned().with_(schedule=fc.Table((0, 2, 5)), predictor=SCALARS))


def test_what_an_export_writes_is_what_its_dry_run_said(tmp_path: Path, model: str):
    words = ("tests.tiny:example", "--method", "Tuned", *calibrated(tmp_path, fc.Tuned(), model, SCALARS), "--json")
    said, result = json.loads(run(*words, "--dry-run").stdout), run(*words)
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert found["method"] == said["method"]
    assert {*(f"{name}.onnx" for name in said["graphs"]), said["single_graph"]} <= set(found["files"])


def test_a_dry_run_refuses_a_calibration_that_the_export_would_refuse(quick: list[Any], tmp_path: Path, model: str):
    words = calibrated(tmp_path, fc.Tuned(), model)
    for more, message in (
        (("--method", "FORA"), "made for another method"),
        (("--method", "Tuned", "--steps", "8"), "for trajectories of 6 steps, not 8"),
    ):
        result = run("tests.tiny:example", *more, *words, "--dry-run")
        assert (result.exit_code, message in plain(result.stderr)) == (2, True), result.output
    assert quick == []


def test_a_dry_run_refuses_a_calibration_of_other_weights(tmp_path: Path):
    words = calibrated(tmp_path, fc.Tuned(), "0" * 64)
    result = run("tests.tiny:example", "--method", "Tuned", *words, "--dry-run")
    assert (result.exit_code, "a model with other weights" in plain(result.stderr)) == (2, True), result.output


def test_what_can_be_written_is_asked_of_the_method_that_a_calibration_makes(tmp_path: Path, model: str):
    """By itself the first decides as it runs, which no client of Triton can follow; the second has no single graph."""
    prony = fc.Method("DMD", "stack", fc.Interval(2), fc.Prony(order=1))
    sites = fc.Method("sites", "branch", fc.PerSite((2, 3, 2, 3)), fc.Reuse())
    for method, words in ((prony, ("--triton", str(tmp_path / "tx"))), (sites, ("--single-graph",))):
        alone = run("tests.tiny:example", "--method", repr(method), *words, "--dry-run")
        assert alone.exit_code != 0, alone.output
        made = calibrated(tmp_path, method, model, SCALARS)
        result = run("tests.tiny:example", "--method", repr(method), *words, *made, "--dry-run")
        assert result.exit_code == 0, result.output
        assert "as step.onnx" in plain(result.stdout)


def test_an_export_that_is_told_to_end_removes_what_is_half_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def write(fast: Any, out: Path, **options: Any) -> None:
        with staged(out) as stage:
            (stage / "weights.bin").write_bytes(b"x")
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(command, "find_example", lambda *given: Example(nn.Identity(), {}))
    monkeypatch.setattr(command, "optimize_example", lambda *given: None)
    monkeypatch.setattr(command, "write_bundle", write)
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)  # the tests go on where the command does not take it
    try:
        result = run("--out", str(tmp_path / "bundle"))
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGTERM, before)
    assert result.exit_code == 143, result.output
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("worst", "code", "word"), [(1e-6, 0, "met"), (1e-3, 1, "missed"), (float("nan"), 1, "missed")]
)
def test_each_output_is_compared_with_eager_and_a_difference_is_a_failed_check(
    bundle: Path, monkeypatch: pytest.MonkeyPatch, worst: float, code: int, word: str
):
    found = Difference("a graph for each mode", "output 0", worst, 1e-4)
    monkeypatch.setattr(command, "optimize_example", lambda *given: None)
    monkeypatch.setattr(command, "write_bundle", lambda *given, **options: read_folder(bundle))
    monkeypatch.setattr(command, "compare_bundle", lambda *given, **options: (found,))
    result = run("--out", str(bundle))
    assert result.exit_code == code, result.output
    assert f"{word} a graph for each mode, output 0: differs from eager by" in plain(result.stdout)
