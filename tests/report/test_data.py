"""What the page, the table and the JSON result have in common."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from tests.report.made_up_report import make_graph, make_report, make_run


def test_ratios_are_taken_against_the_first_run():
    report = make_report()
    assert report.time_ratio(report.uncached) == 1
    assert report.time_ratio(report.cached[1]) == pytest.approx(0.27)
    assert report.cached[1].ideal_ratio == 3 / 12
    assert report.cached[1].label == "FORA N=4, branch"
    assert report.uncached.label == "no cache"


def test_a_report_must_begin_with_the_uncached_run():
    report = make_report()
    with pytest.raises(ValueError, match="must begin with the uncached run"):
        replace(report, runs=report.cached)
    with pytest.raises(ValueError, match="must begin with the uncached run"):
        replace(report, runs=())


def test_the_best_run_is_the_fastest_within_the_error():
    report = make_report()
    found = [report.choose_best(error) for error in (0.1, 0.02, 0.01)]
    assert [run.label if run else "" for run in found] == [
        "TaylorSeer N=4, stack",
        "TaylorSeer N=4, stack",
        "TaylorSeer N=2, stack",
    ]


def test_the_best_run_is_the_closest_one_when_none_is_within_the_error():
    best = make_report().choose_best(0.001)
    assert best is not None
    assert best.label == "TaylorSeer N=2, stack"


def test_there_is_no_best_run_when_none_is_faster():
    report = make_report()
    slow = make_run("FORA", "branch", 2, 10.5, 0.01)
    assert replace(report, runs=(report.uncached, slow)).choose_best(1.0) is None


def test_the_json_result_is_strict_json_even_with_nan():
    report = make_report()
    broken = replace(report.cached[0], errors=(float("nan"), 0.1, float("inf")))
    result = replace(report, runs=(report.uncached, broken)).as_dict()
    read = json.loads(json.dumps(result, allow_nan=False))
    assert read["runs"][1]["error"] is None
    assert read["runs"][1]["errors"] == [None, 0.1, None]
    assert read["runs"][1]["schedule"] == [0, 2, 4, 6, 8, 10]
    assert read["graphs"][0]["grid"] == {"t": 1, "h": 16, "w": 16, "start": 0}
    assert read["graphs"][0]["refusals"][0]["reason"] == "branch <x> holds no matmul"


def test_an_unknown_mode_is_named_with_the_modes_there_are():
    with pytest.raises(KeyError, match=r"no mode 'partial'; there are \['compute', 'reuse', 'prepared'\]"):
        make_graph("FORA", "branch").mode("partial")
