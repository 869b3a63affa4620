"""The charts: SVG that takes its colours from the page."""

from __future__ import annotations

import re
from dataclasses import replace
from xml.etree import ElementTree

import pytest

from fouriercache.report.plots import error_against_speed, error_along_the_way, series_colours
from tests.report.made_up_report import make_report


def draw_both() -> list[str]:
    report = make_report()
    return [error_against_speed(report), error_along_the_way(report, report.cached)]


def test_charts_are_well_formed_and_name_every_point():
    speed, drift = draw_both()
    ElementTree.fromstring(speed)
    ElementTree.fromstring(drift)
    assert speed.count(">N=2<") == speed.count(">N=4<") == 2
    assert ">FORA, branch<" in speed
    assert ">TaylorSeer N=4, stack<" in drift


def test_charts_hold_no_colour_of_their_own_and_no_address():
    for chart in draw_both():
        assert not re.search(r"#[0-9a-fA-F]{6}", chart.replace("clip-path", ""))
        assert "http" not in chart
        assert "<style" not in chart
        assert "var(--series-0)" in chart


def test_the_same_report_draws_the_same_chart():
    assert draw_both() == draw_both()


def test_two_charts_on_one_page_share_no_id():
    report = make_report()
    wide, narrow = error_against_speed(report), error_against_speed(report, width=4.4)
    ids = [re.findall(r'id="([^"]+)"', chart) for chart in (wide, narrow, *draw_both()[1:])]
    assert len(set().union(*ids)) == sum(len(found) for found in ids)


def test_every_reference_inside_a_chart_leads_somewhere():
    for chart in draw_both():
        ids = set(re.findall(r'id="([^"]+)"', chart))
        wanted = set(re.findall(r'(?:href="#|url\(#)([^")]+)', chart))
        assert wanted
        assert wanted <= ids


def test_a_run_without_error_is_left_off_the_logarithmic_axis():
    report = make_report()
    exact = replace(report.cached[0], errors=(0.0, 0.0, 0.0))
    chart = error_against_speed(replace(report, runs=(report.uncached, exact, *report.cached[1:])))
    assert chart.count(">N=2<") == 1


@pytest.mark.parametrize("error", [0.0, float("nan")])
def test_a_report_with_nothing_to_draw_still_draws_its_axes(error: float):
    report = make_report()
    runs = tuple(replace(run, errors=(error,) * 3, drift=(error,) * run.steps) for run in report.cached)
    empty = replace(report, runs=(report.uncached, *runs))
    assert "times faster" in error_against_speed(empty)
    assert "relative L2" in error_along_the_way(empty, empty.cached)


def test_each_method_has_its_own_colour():
    assert series_colours(make_report()) == {"FORA": "var(--series-0)", "TaylorSeer": "var(--series-1)"}
