"""The command line: what it prints where, and how it ends."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from fouriercache import cli
from fouriercache.cli import demo as demo_command
from fouriercache.cli import doctor as doctor_command
from fouriercache.cli.app import COMMANDS, load_command
from fouriercache.errors import CaptureError, MissingExtraError, PassError, WeightsError
from fouriercache.models import examples
from fouriercache.models.demo import CLASS_NAMES
from fouriercache.presets import FORA, TaylorSeer
from fouriercache.report import demo as demo_module
from fouriercache.report.data import DemoReport
from fouriercache.report.environment import Finding
from tests.report.made_up_report import make_report


def run(*words: str) -> Result:
    return CliRunner().invoke(cli.app, list(words), env={"COLUMNS": "100", "NO_COLOR": "1"})


def plain(text: str) -> str:
    return re.sub(r"\s+", " ", re.sub(r"\x1b\[[0-9;]*m|[│╭╮╰╯─]", "", text))


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Put a made-up report in the place of the sampling; return the arguments it was asked for with."""
    asked: list[dict[str, Any]] = []

    def run_demo(**arguments: Any) -> DemoReport:
        asked.append(arguments)
        arguments["notice"](demo_module.PREPARING, 1, 2)
        return make_report()

    monkeypatch.setattr(demo_command, "run_demo", run_demo)
    monkeypatch.setattr(demo_command, "estimate_seconds", lambda steps: 2.5 * steps)
    return asked


def test_demo_writes_the_report_and_prints_the_table(tmp_path: Path, quick: list[dict[str, Any]]):
    result = run("demo", "--out", str(tmp_path / "new"), "--steps", "12", "--seed", "7")
    assert result.exit_code == 0
    assert "TaylorSeer N=4" in result.stdout
    assert "Wrote" not in result.stdout
    assert "about 30.0 s of sampling" in plain(result.stderr)
    assert f"Wrote {tmp_path / 'new' / 'report.html'}" in result.stderr.replace("\n", "")
    assert {path.name for path in (tmp_path / "new").iterdir()} == {"report.html", "results.json"}
    assert (quick[0]["steps"], quick[0]["seed"]) == (12, 7)
    assert quick[0]["command"] == [
        "fouriercache", "demo", "--out", str(tmp_path / "new"), "--steps", "12", "--seed", "7"
    ]  # fmt: skip


def test_demo_prints_json_and_nothing_else_on_stdout(tmp_path: Path, quick: list[dict[str, Any]]):
    result = run("demo", "--out", str(tmp_path), "--json")
    assert result.exit_code == 0
    assert json.loads(result.stdout) == json.loads((tmp_path / "results.json").read_text())


def test_demo_ends_with_1_when_a_check_fails(tmp_path: Path, quick: Any, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(demo_command, "run_demo", lambda **_: make_report(passed=False))
    result = run("demo", "--out", str(tmp_path))
    assert result.exit_code == 1
    assert "A check failed" in result.stderr
    assert (tmp_path / "report.html").is_file()


def test_a_dry_run_says_what_would_run_and_writes_nothing(tmp_path: Path, quick: list[dict[str, Any]]):
    result = run("demo", "--out", str(tmp_path / "new"), "--dry-run", "--steps", "50")
    assert result.exit_code == 0
    assert "FORA N=5, branch" in result.stdout
    assert "2 min 05 s" in plain(result.stdout)
    assert not (tmp_path / "new").exists()
    assert quick == []
    planned = json.loads(run("demo", "--out", str(tmp_path / "new"), "--dry-run", "--json").stdout)
    assert planned["loops"][0] == {"label": "no cache", "computed": 50}
    assert planned["sampling_seconds"] == 125


def test_demo_refuses_an_out_that_is_a_file(tmp_path: Path, quick: list[dict[str, Any]]):
    (tmp_path / "taken").write_text("mine")
    result = run("demo", "--out", str(tmp_path / "taken"))
    assert result.exit_code == 2
    assert "taken is a file, not a folder. Give --out another folder." in plain(result.stderr)
    assert result.stdout == ""
    assert quick == []


@pytest.mark.parametrize(
    "words", [("--steps", "0"), ("--steps", "1001"), ("--steps", "many"), ("--seed", "-1"), ("--x",)]
)
def test_demo_refuses_bad_options(words: tuple[str, ...], quick: list[dict[str, Any]]):
    result = run("demo", *words)
    assert result.exit_code == 2
    assert words[0] in plain(result.stderr)
    assert quick == []


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--method", "TaylorSeeer"), "Did you mean 'TaylorSeer'"),
        (("--site", "brunch"), "brunch"),
        (("--interval", "0"), "interval"),
        (("--method", "FORA", "--order", "2"), "FORA takes no order"),
        (("--site", "stack", "--program", "partial"), "no program called 'partial'"),
        (("--batch", "4"), "give --device"),
        (("--program", "reuse", "--device", "h200"), "Leave out --device"),
        (("--site", "stack", "--device", "h20"), "Did you mean 'h200'"),
    ],
)
def test_inspect_refuses_bad_use(words: tuple[str, ...], message: str):
    result = run("inspect", *words)
    assert result.exit_code == 2
    assert message in plain(result.stderr)
    assert result.stdout == ""


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (WeightsError("The demo model is not there.\n  Install the package again."), 3),
        (CaptureError("Cannot capture."), 3),
        (MissingExtraError("Install fouriercache[onnx]."), 3),
    ],
)
def test_what_cannot_be_done_here_ends_with_3(error: Exception, code: int, monkeypatch: pytest.MonkeyPatch):
    def fail() -> None:
        raise error

    monkeypatch.setattr(examples, "load_demo_model", fail)
    result = run("inspect")
    assert result.exit_code == code
    assert str(error).splitlines()[0] in result.stderr


def test_a_defect_of_ours_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch):
    def fail() -> None:
        raise PassError("count does not match")

    monkeypatch.setattr(examples, "load_demo_model", fail)
    result = run("inspect")
    assert result.exit_code == 1
    assert isinstance(result.exception, PassError)


def test_doctor_names_versions_extras_and_the_model():
    result = run("doctor")
    assert result.exit_code == 0
    for words in ("torch", "onnx", "eager", "torch threads", "Demo model", "loaded"):
        assert words in result.stdout
    findings = json.loads(run("doctor", "--json").stdout)
    assert {finding["group"] for finding in findings} == {"Versions", "Extras", "Backends", "Machine", "Demo model"}


def test_doctor_ends_with_1_when_something_must_be_mended(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(
        doctor_command, "examine", lambda: (Finding("Versions", "torch", "1.0", "bad", "pip install torch"),)
    )
    result = run("doctor")
    assert result.exit_code == 1
    assert "pip install torch" in result.stdout


def test_doctor_says_what_is_wrong_with_the_model(monkeypatch: pytest.MonkeyPatch):
    def fail() -> None:
        raise WeightsError("The demo model is not there.\n  missing: x\n  Install the package again.")

    monkeypatch.setattr(doctor_command, "load_demo_model", fail)
    result = run("doctor", "--json")
    assert result.exit_code == 1
    last = json.loads(result.stdout)[-1]
    assert (last["value"], last["state"]) == ("The demo model is not there.", "bad")


def test_the_commands_are_these_and_no_word_shows_the_help():
    result = run()
    assert result.exit_code == 2
    for name in ("demo", "optimize", "calibrate", "export", "bench", "inspect", "check", "doctor"):
        assert name in result.output


@pytest.mark.parametrize("name", COMMANDS)
def test_the_help_lists_a_command_by_the_first_paragraph_of_its_own(name: str):
    assert load_command(name).help.partition("\n\n")[0].replace("\n", " ") == COMMANDS[name]
    assert load_command(name).name == name


@pytest.mark.parametrize(
    "words",
    [["--version"], ["--help"], ["nothing"], ["optimize", "--help"], ["export", "--help"], ["inspect", "--help"]],
)
def test_what_runs_no_model_imports_neither_diffusers_nor_matplotlib(words: list[str]):
    code = (
        "import sys; from fouriercache.cli import main\n"
        f"sys.argv = ['fouriercache', *{words!r}]\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "assert 'fouriercache.cli.app' in sys.modules\n"
        "print('loaded', *{'diffusers', 'transformers', 'matplotlib', 'onnx'} & sys.modules.keys())"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.splitlines()[-1] == "loaded"


def test_help_and_version_read_no_command():
    code = (
        "import sys; from fouriercache.cli import main\n"
        "sys.argv = ['fouriercache', '--help']\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        f"print(*[name for name in {list(COMMANDS)!r} if 'fouriercache.cli.' + name in sys.modules], 'done')"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.splitlines()[-1] == "done"


@pytest.mark.parametrize("name", COMMANDS)
def test_the_help_of_a_command_teaches_by_example(name: str):
    result = run(name, "--help")
    assert result.exit_code == 0
    assert f"fouriercache {name}" in result.stdout.partition("Examples:")[2]


def test_inspect_shows_sites_and_costs_of_the_shipped_model():
    result = run("inspect", "--site", "stack", "--method", "FORA")
    assert result.exit_code == 0
    assert "FORA, stack sites" in result.stdout
    assert "Token grid: 1 x 16 x 16" in result.stdout
    assert "prepared / compute" in result.stdout


def test_inspect_prints_one_program_and_nothing_else():
    text = run("inspect", "--site", "stack", "--program", "canonical").stdout
    assert text.startswith("main(")
    assert text.count("fouriercache.select") == 1
    assert text.endswith("token grid: 1 x 16 x 16 from token 0\n")


def test_inspect_puts_sites_costs_and_program_into_json():
    found = json.loads(run("inspect", "--program", "reuse", "--json").stdout)
    assert len(found["sites"]) == 16
    assert found["sites"][0]["shape"] == "s0, 256, 128"
    assert [mode["mode"] for mode in found["modes"]] == ["compute", "reuse", "prepared"]
    assert found["program"].startswith("main(")


def test_inspect_predicts_what_a_device_takes():
    words = ("inspect", "--site", "stack", "--method", "FORA", "--device", "h200", "--batch", "4")
    text = run(*words).stdout
    for said in ("Predicted for H200 SXM, batch 4", "original", "reuse", "Trajectory: 18 of 50 steps computed"):
        assert said in text
    found = json.loads(run(*words, "--json").stdout)["cost"]
    assert found["batch"] == 4
    assert found["trajectory"]["flops_speedup"] == pytest.approx(50 / 18, rel=0.05)
    assert found["device"]["peaks"]["bfloat16"] > found["device"]["peaks"]["float32"]


@pytest.mark.slow
def test_the_demo_runs_on_the_shipped_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    settings = (
        demo_module.Setting(FORA(2), "N=2"),
        demo_module.Setting(TaylorSeer(2, 1, site="stack"), "N=2, O=1"),
    )
    monkeypatch.setattr(demo_module, "choose_settings", lambda steps: settings)
    monkeypatch.setattr(demo_command, "choose_settings", lambda steps: settings)
    monkeypatch.setattr(demo_module, "CLASS_NAMES", CLASS_NAMES[:2])  # the other eight cost only time
    result = run("demo", "--out", str(tmp_path), "--steps", "4", "--json")
    assert result.exit_code == 0, result.stderr
    found = json.loads(result.stdout)
    assert [run["schedule"] for run in found["runs"]] == [[0, 1, 2, 3], [0, 1, 3], [0, 1, 3]]
    assert all(check["passed"] for check in found["checks"])
    assert found["runs"][1]["cache_bytes"] > found["runs"][2]["cache_bytes"] > 0
    assert [loop["label"] for loop in found["predictions"]] == [setting.label for setting in settings]
    assert all(3 / 4 <= loop["flops"] < 1 for loop in found["predictions"])
    assert 0 < found["runs"][1]["error"] < 1
