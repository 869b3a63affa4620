from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from fouriercache import cli
from fouriercache.calibrations import Calibration
from fouriercache.cli import calibrate as calibrate_command
from fouriercache.errors import CaptureError
from fouriercache.schedules import Polynomial

FOUND = Calibration(
    method="site='stack', predictor=Newton(order=2)",
    num_steps=6,
    timesteps=(5.0, 4.0, 3.0, 2.0, 1.0, 0.0),
    model="0" * 64,
    scheduler=None,
    steps=(0, 2, 5),
    errors={"uniform": 0.2, "start": 0.1, "found": 0.05},
    neighbours=(((0, 1, 5), 0.25), ((0, 2, 4), 0.125)),
)
FITTED = Calibration(
    method="x",
    num_steps=2,
    timesteps=(1.0, 0.0),
    model="0" * 64,
    scheduler=None,
    polynomial=Polynomial((1.0, 0.5), 0.1, 0.3),
    r_squared=0.93,
)


def run(*words: str) -> Result:
    return CliRunner().invoke(cli.app, ["calibrate", *words], env={"COLUMNS": "100", "NO_COLOR": "1"})


def plain(text: str) -> str:
    return re.sub(r"\s+", " ", re.sub(r"\x1b\[[0-9;]*m|[│╭╮╰╯─]", "", text))


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Put a made-up calibration in the place of the real one; return the arguments it was asked for with."""
    asked: list[dict[str, Any]] = []

    def calibrate(_: Any, method: Any, **arguments: Any) -> Calibration:
        asked.append({"method": method, **arguments})
        return FOUND if "steps" in arguments else FITTED  # a polynomial is asked for with no number of steps

    monkeypatch.setattr(calibrate_command, "run_calibration", calibrate)
    monkeypatch.setattr(calibrate_command, "seconds_of_a_call", lambda *_: 0.1)
    return asked


def test_writes_what_it_found_and_prints_the_error_of_each_stage(tmp_path: Path, quick: list[dict[str, Any]]):
    out = tmp_path / "found.safetensors"
    result = run("--out", str(out), "--steps", "6", "--computed", "3", "--trials", "9", "--refine", "1")
    assert result.exit_code == 0, result.output
    assert Calibration.load(out) == FOUND
    assert "Computed steps: 0, 2, 5" in result.stdout
    assert re.search(r"dynamic programming +10\.0 %", result.stdout)
    assert re.search(r"worst +25\.0 %", result.stdout)
    assert "Wrote" in result.stderr
    assert "Wrote" not in result.stdout
    (asked,) = quick
    assert (asked["num_steps"], asked["steps"], asked["trials"], asked["refine"]) == (6, 3, 9, 1)
    assert asked["checkpoint"] == tmp_path / "found.checkpoint.safetensors"
    assert asked["method"].name == "Tuned"


def test_fits_the_polynomial_of_a_method_that_measures(tmp_path: Path, quick: list[dict[str, Any]]):
    result = run("--out", str(tmp_path / "x.safetensors"), "--method", "TeaCache")
    assert result.exit_code == 0, result.output
    assert "Polynomial: 1, 0.5" in result.stdout
    assert "from 0.1 to 0.3, R2 0.930" in result.stdout
    assert not {"steps", "trials", "refine", "probes", "checkpoint"} & set(quick[0])
    assert "is kept in" not in result.stderr


def test_prints_json_and_nothing_else_on_stdout(tmp_path: Path, quick: list[dict[str, Any]]):
    result = run("--out", str(tmp_path / "x.safetensors"), "--json")
    assert json.loads(result.stdout) == FOUND.as_dict()


def test_a_dry_run_says_how_long_and_writes_nothing(tmp_path: Path, quick: list[dict[str, Any]]):
    out = tmp_path / "x.safetensors"
    result = run("--out", str(out), "--dry-run", "--computed", "10", "--trials", "60")
    # 50 + 10 * (1 + 12 probes + 3 starts + 60 trials + 18 neighbours) calls of 0.1 s
    assert "At most 99.0 s" in plain(result.stdout)
    planned = json.loads(run("--out", str(out), "--dry-run", "--json").stdout)
    assert planned == {"method": "Tuned", "steps": 50, "computed": 10, "seconds": pytest.approx(99)}
    twice = run("--out", str(out), "--dry-run", "--json", "--guidance", "1.5", "--guidance", "4")
    assert json.loads(twice.stdout)["seconds"] == pytest.approx(2 * 99)
    assert list(tmp_path.iterdir()) == []
    assert quick == []


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--method", "Tunned"), "Did you mean 'Tuned'"),
        (("--method", "FORA", "--order", "2"), "FORA takes no order"),
        (("--steps", "1"), "--steps"),
        (("--method", "TeaCache", "--computed", "7", "--refine", "1"), "TeaCache decides about steps itself"),
        (("--out", "/nowhere/x.safetensors"), "is no file in a folder that can be written to"),
        (("--computed", "50"), "leaves nothing to choose"),
        (("--computed", "60", "--dry-run"), "leaves nothing to choose"),
    ],
)
def test_refuses_bad_use_with_2(words: tuple[str, ...], message: str, tmp_path: Path):
    result = run(*(() if "--out" in words else ("--out", str(tmp_path / "x.safetensors"))), *words)
    assert result.exit_code == 2
    assert message in plain(result.stderr)
    assert list(tmp_path.iterdir()) == []


def test_refuses_the_checkpoint_of_another_calibration_with_2(tmp_path: Path):
    (tmp_path / "x.checkpoint.safetensors").write_bytes(b"mine")
    result = run("--out", str(tmp_path / "x.safetensors"), "--images", "1", "--steps", "4", "--computed", "2")
    assert result.exit_code == 2
    assert "not a checkpoint" in plain(result.stderr)


def test_what_cannot_be_done_here_ends_with_3(tmp_path: Path, quick: Any, monkeypatch: pytest.MonkeyPatch):
    def fail(*_: Any, **__: Any) -> None:
        raise CaptureError("Cannot capture.")

    monkeypatch.setattr(calibrate_command, "run_calibration", fail)
    result = run("--out", str(tmp_path / "x.safetensors"))
    assert result.exit_code == 3
    assert "Cannot capture." in result.stderr


def test_help_teaches_by_example():
    shown = plain(run("--help").stdout)
    for words in ("fouriercache calibrate --dry-run", "--refine 1", "calibration='calibration.safetensors'"):
        assert words in shown


@pytest.mark.slow
def test_calibrates_the_shipped_model(tmp_path: Path):
    words = ("--out", str(tmp_path / "x.safetensors"), "--images", "2", "--steps", "6", "--computed", "3")
    result = run(*words, "--trials", "4", "--json")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert found["errors"]["found"] <= found["errors"]["uniform"]
    assert Calibration.load(tmp_path / "x.safetensors").steps == tuple(found["steps"])
