"""The commands that look at graphs, on a tiny model of the user's own."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from fouriercache import cli
from fouriercache.cli.written import method_from_text
from fouriercache.errors import GoldenError, MethodError
from fouriercache.optimize import CACHE_DIR
from fouriercache.passes import pipeline
from fouriercache.passes.remove_dead import RemoveDead
from fouriercache.presets import PRESETS

TINY = "tests.tiny:example"


def run(*words: str) -> Result:
    return CliRunner().invoke(cli.app, list(words), env={"COLUMNS": "100", "NO_COLOR": "1"})


def plain(text: str) -> str:
    return re.sub(r"\s+", " ", re.sub(r"\x1b\[[0-9;]*m|[│╭╮╰╯─]", "", text))


@pytest.fixture
def golden(tmp_path: Path) -> Path:
    path = tmp_path / "graphs" / "tiny.txt"
    result = run("optimize", TINY, "--steps", "8", "--golden", str(path))
    assert result.exit_code == 0, result.stderr
    assert f"Wrote {path}" in result.stderr.replace("\n", "")
    return path


def test_optimize_says_what_a_method_makes_of_a_model():
    result = run("optimize", TINY, "--method", "FORA", "--interval", "2", "--steps", "8")
    assert result.exit_code == 0
    assert "FORA, branch sites" in result.stdout
    assert "Computed steps: 5 of 8" in result.stdout
    found = json.loads(run("optimize", TINY, "--method", "FORA", "--interval", "2", "--steps", "8", "--json").stdout)
    costs = {mode["mode"]: mode["flops"] for mode in found["modes"]}
    assert found["trajectory"]["flops"] == (5 * costs["compute"] + 3 * costs["reuse"]) / (8 * costs["compute"])
    assert found["trajectory"]["kept"] == 4 * 2 * 16 * 16 * 4  # four values of [2, 16, 16] in float32


def test_optimize_promises_nothing_of_steps_that_are_decided_as_they_run():
    result = run("optimize", TINY, "--method", "TeaCache", "--steps", "8")
    assert result.exit_code == 0
    assert "Computed steps: decided as the 8 steps run" in result.stdout


def test_a_capture_from_disk_is_said_with_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    folder = tmp_path / "captures"
    said = f"The capture of {TINY} comes from {folder}".replace(" ", "")
    words = ("optimize", TINY, "--steps", "8")
    first = run(*words, "--cache-dir", str(folder))
    assert first.exit_code == 0
    assert "comesfrom" not in "".join(first.stderr.split())
    assert said in "".join(run(*words, "--cache-dir", str(folder)).stderr.split())
    monkeypatch.setenv(CACHE_DIR, str(folder))
    assert said in "".join(run(*words).stderr.split())


def test_check_holds_what_optimize_wrote(golden: Path):
    result = run("check", str(golden))
    assert (result.exit_code, result.stdout) == (0, "")
    assert result.stderr.endswith(f"same       {golden}\n")


def test_check_ends_with_1_and_says_what_differs(golden: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(pipeline, "NarrowLinear", RemoveDead)
    result = run("check", str(golden))
    assert result.exit_code == 1
    assert "reuse: FLOPs" in result.stderr
    assert f"If this is meant: fouriercache check {golden} --update" in result.stderr.replace("\n", "")
    found = json.loads(run("check", str(golden), "--json").stdout)
    assert [(item["golden"], item["same"]) for item in found] == [(str(golden), False)]
    assert any(sentence.startswith("reuse: FLOPs") for sentence in found[0]["differences"])


def test_check_updates_when_it_is_asked_to(golden: Path, monkeypatch: pytest.MonkeyPatch):
    before = golden.read_text()
    monkeypatch.setattr(pipeline, "NarrowLinear", RemoveDead)
    result = run("check", str(golden), "--update")
    assert result.exit_code == 0
    assert f"updated    {golden}" in result.stderr
    assert golden.read_text() != before
    assert run("check", str(golden)).exit_code == 0
    monkeypatch.undo()
    run("check", str(golden), "--update")
    assert golden.read_text() == before


def test_an_update_makes_a_golden_that_cannot_be_read_again(golden: Path, monkeypatch: pytest.MonkeyPatch):
    before = golden.read_text()
    damaged = before.replace("version 1", "version 2").replace("\n[sites]", "\nhalf a line\n[sites]")
    golden.write_text(damaged)
    assert f"fouriercache check {golden} --update" in run("check", str(golden)).stderr.replace("\n", "")
    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", lambda *_: os.replace("nowhere", golden))
        result = run("check", str(golden), "--update")
    assert result.exit_code == 2
    assert f"The golden {golden} cannot be written: No such file" in result.stderr.replace("\n", "")
    assert (golden.read_text(), os.listdir(golden.parent)) == (damaged, [golden.name])
    assert run("check", str(golden), "--update").exit_code == 0
    assert golden.read_text() == before
    golden.write_text(damaged.replace("\nspec: ", "\nsp"))
    result = run("check", str(golden), "--update")
    assert result.exit_code == 2
    assert "it has no spec" in plain(result.stderr)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("spec: tests.tiny:example\n", ""), "it has no spec"),
        (("spec: tests.tiny:example", "spec: dit-xl-3"), "Did you mean 'dit-xl-2'"),
        (("steps: 8", "steps: eight"), "It should be a number"),
        (("method: Method(", "method: __import__("), "cannot be read"),
        (("method: Method(", "method: Taylor("), "Taylor"),
        (("fouriercache graphs, version 1", "fouriercache graphs, version 2"), "is of version 2"),
    ],
)
def test_check_refuses_goldens_it_cannot_use(change: tuple[str, str], message: str, golden: Path):
    golden.write_text(golden.read_text().replace(*change))
    result = run("check", str(golden))
    assert result.exit_code == 2
    assert message in plain(result.stderr)


def test_check_refuses_files_that_are_no_goldens(tmp_path: Path):
    assert run("check").exit_code == 2
    result = run("check", str(tmp_path / "missing.txt"))
    assert result.exit_code == 2
    assert "cannot be read: No such file" in plain(result.stderr)


def test_inspect_takes_a_model_of_the_users():
    found = json.loads(run("inspect", TINY, "--json").stdout)
    assert len(found["sites"]) == 4
    text = run("inspect", TINY, "--program", "reuse").stdout
    assert text.startswith("main(")


def test_bench_times_both_loops_in_turns():
    words = ("bench", TINY, "--method", "FORA", "--interval", "2", "--steps", "6", "--rounds", "2")
    found = json.loads(run(*words, "--json").stdout)
    calls = {timing["name"]: timing["calls"] for timing in found["timings"]}
    assert calls == {"original step": 12, "computed step": 8, "cached step": 4}
    assert len(found["ratios"]) == 2
    assert (found["computed"], found["steps"]) == (4, 6)
    assert 0 < found["cache_bytes"] <= found["held_bytes"] < found["resident_bytes"]
    assert all(0 < timing["quartiles"][0] <= timing["quartiles"][1] for timing in found["timings"])
    result = run(*words)
    assert result.exit_code == 0
    assert "4 of 6 steps computed: ideal 0.667" in result.stdout
    assert "Kept features" in result.stdout


def test_bench_cannot_run_a_model_without_weights():
    result = run("bench", "dit-xl-2@1", "--steps", "4")
    assert result.exit_code == 3
    assert "the model has no weights" in plain(result.stderr)


@pytest.mark.parametrize("command", ["optimize", "inspect", "bench"])
def test_commands_refuse_a_model_that_is_not_there(command: str):
    result = run(command, "flux-def")
    assert result.exit_code == 2
    assert "Did you mean 'flux-dev'" in plain(result.stderr)


@pytest.mark.parametrize("words", [("--site", "brunch"), ("--tolerance", "2")])
def test_a_dry_run_of_an_analysis_refuses_what_the_analysis_would(words: tuple[str, ...]):
    result = run("analyze", *words, "--dry-run")
    assert (result.exit_code, result.stdout) == (2, "")
    assert words[1] in plain(result.stderr)


def test_optimize_says_where_it_cannot_write(tmp_path: Path):
    (tmp_path / "taken").write_text("mine")
    result = run("optimize", TINY, "--golden", str(tmp_path / "taken" / "golden.txt"))
    assert result.exit_code == 2
    assert "cannot be written" in plain(result.stderr)


@pytest.mark.parametrize("name", list(PRESETS))
def test_every_method_is_read_back_from_its_text(name: str):
    method = PRESETS[name]()
    assert method_from_text(repr(method)) == method


def test_a_method_may_be_written_as_its_preset():
    assert method_from_text("TaylorSeer(interval=4, site='stack')") == PRESETS["TaylorSeer"](interval=4, site="stack")


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("print('x')", GoldenError),
        ("(lambda: 1)()", GoldenError),
        ("TaylorSeer.__class__", GoldenError),
        ("Taylor(order=2)", GoldenError),
        ("TaylorSeer(interval=", GoldenError),
        ("TaylorSeer(interval=[x for x in ()])", GoldenError),
        ("(" * 300 + ")" * 300, GoldenError),
        ("optimize(1, 2)", GoldenError),
        ("TaylorSeer(interval=0)", MethodError),
        ("TaylorSeer(wrong=1)", GoldenError),
    ],
)
def test_only_methods_are_understood(text: str, error: type[Exception]):
    with pytest.raises(error):
        method_from_text(text)
