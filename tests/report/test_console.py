"""The tables on the terminal."""

from __future__ import annotations

import io
from dataclasses import replace

from rich.console import Console, RenderableType

from fouriercache.report.console import draw_facts, draw_findings, draw_plan, draw_runs
from fouriercache.report.environment import Finding
from tests.report.made_up_report import make_graph, make_report


def printed(result: RenderableType, width: int = 80) -> list[str]:
    console = Console(file=io.StringIO(), width=width)
    console.print(result)
    assert isinstance(console.file, io.StringIO)
    return [line.rstrip() for line in console.file.getvalue().splitlines()]


def test_each_run_is_one_line_of_a_narrow_terminal():
    lines = printed(draw_runs(make_report()))
    assert [line.split() for line in lines[2:7]] == [
        ["no", "cache", "-", "12", "of", "12", "1.000", "1.000", "-", "-"],
        ["FORA", "N=2", "branch", "6", "of", "12", "0.510", "0.500", "2.1", "%", "3.00", "MiB"],
        ["FORA", "N=4", "branch", "3", "of", "12", "0.270", "0.250", "8.3", "%", "3.00", "MiB"],
        ["TaylorSeer", "N=2", "stack", "6", "of", "12", "0.502", "0.500", "0.40", "%", "3.00", "MiB"],
        ["TaylorSeer", "N=4", "stack", "3", "of", "12", "0.260", "0.250", "1.2", "%", "3.00", "MiB"],
    ]
    assert lines[-1] == "ok interval 1 is exact: largest difference 0"


def test_a_failed_check_is_marked():
    assert printed(draw_runs(make_report(passed=False)))[-1].startswith("!! interval 1 is exact")


def test_the_plan_shows_what_is_ideal():
    lines = printed(draw_plan([("no cache", 50), ("FORA N=5, branch", 11)], 50))
    assert lines[-1].split() == ["FORA", "N=5,", "branch", "11", "0.220"]


def test_facts_show_sites_refusals_grid_and_costs():
    text = "\n".join(printed(draw_facts(make_graph("FORA", "branch"))))
    for words in (
        "attention  transformer_blocks.0 to 3  [s0,256,128]  yes       4",
        "branch <x> holds no matmul",
        "Token grid: 1 x 16 x 16, first token at 0",
        "prepared / compute",
    ):
        assert words in text


def test_facts_say_when_there_is_no_grid_and_no_refusal():
    text = "\n".join(printed(draw_facts(replace(make_graph("FORA", "branch"), grid=None, refusals=()))))
    assert "Token grid: not found" in text
    assert "Nothing was left alone." in text


def test_findings_are_grouped_and_show_what_to_do():
    findings = [
        Finding("Versions", "torch", "2.13"),
        Finding("Extras", "onnx", "without [onnx]", "missing", "pip install '.[onnx]'"),
    ]
    lines = printed(draw_findings(findings), width=120)
    assert lines[0] == "Versions"
    assert lines[3] == "Extras"
    assert "--" in lines[4]
    assert lines[4].endswith("pip install '.[onnx]'")
