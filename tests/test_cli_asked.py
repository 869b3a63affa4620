"""What commands are told of a method: presets with any option, methods written out, calibrations, token grids."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

import fouriercache as fc
from fouriercache import cli
from fouriercache.calibrations import describe_method
from fouriercache.fingerprints import fingerprint_weights
from fouriercache.optimize import CACHE_DIR
from tests.tiny import example

TINY = "tests.tiny:example"


def run(*words: str) -> Result:
    return CliRunner().invoke(cli.app, list(words), env={"COLUMNS": "100", "NO_COLOR": "1"})


def plain(text: str) -> str:
    return re.sub(r"\s+", " ", re.sub(r"\x1b\[[0-9;]*m|[│╭╮╰╯─]", "", text))


def optimized(*words: str) -> dict[str, Any]:
    result = run("optimize", TINY, "--json", *words)
    assert result.exit_code == 0, result.stderr
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def kept(*words: str) -> int:
    bytes_kept: int = optimized(*words)["trajectory"]["kept"]
    return bytes_kept


def test_a_method_made_for_a_number_of_steps_is_made_for_those_of_the_command():
    assert optimized("--method", "Spectrum", "--steps", "8")["trajectory"]["steps"] == 8
    words = ("--method", "Spectrum(num_steps=50)", "--steps", "8")
    assert "as fc.Spectrum(num_steps=8) does" in plain(run("optimize", TINY, *words).stderr)


def test_any_option_of_a_preset_can_be_set():
    dense = kept("--site", "stack", "--steps", "8")
    assert kept("--site", "stack", "--steps", "8", "--set", "codec=Quantized('int8')") < dense / 3
    words = ("--site", "stack", "--steps", "8", "--interval", "4")
    assert (
        optimized(*words)["trajectory"]["computed"] < optimized(*words, "--set", "warmup=4")["trajectory"]["computed"]
    )


def test_a_method_can_be_written_out():
    words = ("--method", "Method('DMD', 'stack', Interval(4, warmup=2), Prony(order=1))", "--steps", "8")
    assert run("optimize", TINY, *words).stdout.splitlines()[0].startswith("DMD, stack sites")
    result = run("optimize", TINY, *words, "--set", "order=2", "--interval", "3")
    assert result.exit_code == 2
    assert "Leave out --interval and --set" in plain(result.stderr)


@pytest.mark.parametrize(
    ("setting", "fault"),
    [
        ("ridge", "'ridge' is no KEY=VALUE, as ridge=0.1"),
        ("=3", "'=3' is no KEY=VALUE"),
        ("warmup=", "neither a value of Python"),
        ("warmup=two", "A text needs its quotes: --set \"warmup='two'\""),
        ("warmup=open('/etc/passwd')", "neither a value of Python"),
        ("interval=3", "interval has an option of its own: --interval"),
        ("num_steps=3", "num_steps has an option of its own: --steps"),
        ("warmupp=2", "Use interval, order, warmup, site, schedule, codec, tokens. Did you mean 'warmup'"),
        ("ridge=2", "TaylorSeer takes no ridge"),
        ("warmup='two'", "warmup to be a whole number"),
        ("codec=Quantized('int9')", "int9"),
    ],
)
def test_a_setting_that_makes_no_sense_is_refused(setting: str, fault: str):
    result = run("optimize", TINY, "--set", setting)
    assert result.exit_code == 2
    assert fault in plain(result.stderr)


def test_a_setting_given_twice_is_refused():
    result = run("optimize", TINY, "--set", "warmup=2", "--set", "warmup=3")
    assert (result.exit_code, "warmup is given twice" in plain(result.stderr)) == (2, True)


@pytest.fixture
def calibration(tmp_path: Path) -> Path:
    path = tmp_path / "found.safetensors"
    fc.Calibration(
        method=describe_method(fc.Tuned()),
        num_steps=6,
        timesteps=(5.0, 4.0, 3.0, 2.0, 1.0, 0.0),
        model=fingerprint_weights(example()[0]),
        scheduler=None,
        steps=(0, 2, 5),
        errors={"uniform": 0.2, "found": 0.05},
        neighbours=(((0, 1, 5), 0.25), ((0, 2, 4), 0.125)),
    ).save(path)
    return path


def test_a_calibration_says_which_steps_are_computed_and_how_many_there_are(calibration: Path):
    words = ("--method", "Tuned", "--calibration", str(calibration))
    trajectory = optimized(*words)["trajectory"]
    assert (trajectory["steps"], trajectory["computed"]) == (6, 3)
    result = run("optimize", TINY, *words, "--steps", "8")
    assert (result.exit_code, "for trajectories of 6 steps, not 8" in plain(result.stderr)) == (2, True)
    result = run("inspect", TINY, "--method", "FORA", "--calibration", str(calibration))
    assert (result.exit_code, "made for another method" in plain(result.stderr)) == (2, True)
    assert run("optimize", TINY, "--calibration", str(calibration.with_name("none"))).exit_code == 2


def test_bench_times_what_a_calibration_makes_of_the_method_at_its_timesteps(calibration: Path):
    words = ("--method", "Tuned", "--calibration", str(calibration), "--rounds", "1", "--json")
    result = run("bench", TINY, *words)
    assert result.exit_code == 0, result.stderr
    found = json.loads(result.stdout)
    assert found["method"] == repr(fc.Tuned().with_(schedule=fc.Table((0, 2, 5))))
    assert (found["computed"], found["steps"]) == (3, 6)


def test_a_grid_is_what_optimize_is_told(tmp_path: Path):
    words = ("optimize", TINY, "--steps", "8", "--site", "stack")
    assert "Token grid: 1 x 4 x 4" in run(*words, "--grid", "1,4,4").stdout
    result = run(*words, "--grid", "1,2,8,0")
    assert (result.exit_code, "the given grid of 1 x 2 x 8 contradicts" in plain(result.stderr)) == (3, True)
    for grid, fault in (("4,4", "three whole numbers"), ("a,b,c", "three whole numbers"), ("0,4,4", "at least 1")):
        result = run(*words, "--grid", grid)
        assert (result.exit_code, fault in plain(result.stderr)) == (2, True)
    result = run(*words, "--grid", "1,4,4", "--golden", str(tmp_path / "golden.txt"))
    assert (result.exit_code, "Leave out --grid" in plain(result.stderr)) == (2, True)


def test_a_bundle_has_nothing_to_be_set(tmp_path: Path):
    (tmp_path / "manifest.json").write_text("{}")
    result = run("inspect", str(tmp_path), "--set", "warmup=2")
    assert (result.exit_code, "Leave out --set" in plain(result.stderr)) == (2, True)


@pytest.mark.parametrize("order", ["-1", "1000", "9999"])
def test_an_order_beyond_any_trajectory_is_refused(order: str):
    result = run("optimize", TINY, "--order", order)
    assert (result.exit_code, "--order" in result.stderr) == (2, True)


def test_an_order_beyond_the_trajectory_is_refused_before_anything_is_captured():
    result = run("optimize", TINY, "--order", "60")
    assert result.exit_code == 2
    assert "reads up to 61 computed features, and a trajectory has 50 steps" in plain(result.stderr)


@pytest.mark.parametrize("command", ["analyze", "calibrate"])
@pytest.mark.parametrize("weight", ["nan", "inf", "-inf"])
def test_a_guidance_weight_that_is_not_finite_is_refused(command: str, weight: str):
    result = run(command, "--dry-run", "--guidance", "1.5", "--guidance", weight)
    assert (result.exit_code, "A guidance weight is a finite number" in plain(result.stderr)) == (2, True)


def test_a_check_captures_afresh_wherever_captures_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    golden, folder = tmp_path / "tiny.txt", tmp_path / "captures"
    monkeypatch.setenv(CACHE_DIR, str(folder))
    assert run("optimize", TINY, "--steps", "8", "--golden", str(golden)).exit_code == 0
    before = sorted(folder.rglob("*"))
    assert before
    result = run("check", str(golden))
    assert (result.exit_code, "comes from" in result.stderr) == (0, False)
    assert sorted(folder.rglob("*")) == before
