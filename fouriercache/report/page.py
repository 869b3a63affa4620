"""The demo report as one HTML file that needs nothing else: no network, no script, no second file."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from fouriercache.figures import format_bytes, format_percent, format_ratio, format_seconds, format_speedup
from fouriercache.report.data import DemoReport, DemoRun, Shipped
from fouriercache.report.images import DIFFERENCE_GAIN
from fouriercache.report.plots import error_against_speed, error_along_the_way, series_colours
from fouriercache.report.views import (
    NEUTRAL,
    build_cost_rows,
    build_predictions,
    build_row,
    build_site_tables,
    build_strips,
    mark_programs,
)

_HEADLINE_ERROR = 0.05
"""The headline names the fastest run whose images are at most this far, relative L2, from the uncached ones."""


@dataclass(frozen=True)
class _Headline:
    """The sentence on top; `strong` is the part in colour."""

    before: str
    strong: str
    after: str
    lead: str

    @property
    def title(self) -> str:
        """The sentence without markup."""
        return f"{self.before}{self.strong}{self.after}"


@dataclass(frozen=True)
class _KeyFigure:
    """One number under the headline."""

    name: str
    value: str
    note: str


def render_page(report: DemoReport) -> str:
    """Return the whole page. Every text in `report` is escaped."""
    colours = series_colours(report)
    rows = [build_row(report, run, colours) for run in report.runs]
    best = report.choose_best(_HEADLINE_ERROR)
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    return environment.from_string(_resource("page.html.j2")).render(
        css=Markup(_resource("page.css")),
        report=report,
        headline=choose_headline(report),
        key_figures=_choose_figures(report),
        failed=[check for check in report.checks if not check.passed],
        gain=DIFFERENCE_GAIN,
        rows=rows,
        pairs=[] if best is None else [rows[0], rows[report.runs.index(best)]],
        charts=_charts(report),
        strips=build_strips(report, colours),
        uncached_seconds=format_seconds(report.uncached.seconds),
        slow_labels=[run.label for run in report.cached if report.time_ratio(run) >= 1],
        site_tables=build_site_tables(report),
        refusals=list(dict.fromkeys(refusal for graph in report.graphs for refusal in graph.refusals)),
        **_describe_shipped(report.shipped),
        grid=next((graph.grid for graph in report.graphs if graph.grid is not None), None),
        predictions=build_predictions(report),
        gpu=next((found.gpu for found in report.predictions), ""),
        graphs=[
            {
                "facts": graph,
                "colour": colours.get(graph.method, NEUTRAL),
                "costs": build_cost_rows(graph),
                "programs": mark_programs(graph),
            }
            for graph in report.graphs
        ],
    )


def _describe_shipped(shipped: Shipped | None) -> dict[str, Any]:
    """The words and sizes of the section on what ships."""
    if shipped is None:
        return {}
    return {
        "shipped_weights": format_bytes(shipped.weight_bytes),
        "shipped_seconds": format_seconds(shipped.seconds),
        "shipped_error": f"{shipped.error:.1e}",
        "shipped_graphs": [(name, format_bytes(size)) for name, size in shipped.graphs],
        "shipped_plans": [(plan, format_bytes(plan.bytes)) for plan in shipped.plans],
    }


def _resource(name: str) -> str:
    return files("fouriercache.report").joinpath(name).read_text(encoding="utf-8")


def choose_headline(report: DemoReport) -> _Headline:
    """Name the fastest run within `_HEADLINE_ERROR`, or the closest one that is faster, or say that none is."""
    best = report.choose_best(_HEADLINE_ERROR)
    if best is None:
        return _Headline("Caching ", "did not pay", " in this run", "No setting was faster than the uncached loop.")
    limit = f"{100 * _HEADLINE_ERROR:g} %"
    if best.error <= _HEADLINE_ERROR:
        rank = f"Of {len(report.cached)} settings it is the fastest within {limit} of the uncached images."
    else:
        rank = f"No faster setting stayed within {limit} of the uncached images; this one came closest."
    return _Headline(
        before="",
        strong=f"{format_speedup(report.time_ratio(best))} faster",
        after=f", {format_percent(best.error)} from the original images",
        lead=f"{best.label} sites: {best.computed} of {best.steps} steps are computed, the others are made from what "
        f"the last computed steps left behind. {rank}",
    )


def _choose_figures(report: DemoReport) -> list[_KeyFigure]:
    """Choose the numbers under the headline: those of the run it names, or of the run with the smallest error."""
    best = report.choose_best(_HEADLINE_ERROR) or min(report.cached, key=lambda run: run.error, default=None)
    found = []
    if best is not None:
        note = f"ideal {format_ratio(best.ideal_ratio)}"
        found.append(_KeyFigure("Time, uncached loop = 1", format_ratio(report.time_ratio(best)), note))
    for graph in report.graphs:
        if best is not None and (graph.method, graph.site) == (best.method, best.site):
            full, reused = graph.mode("compute"), graph.mode("prepared")
            share = format_percent(reused.flops / full.flops)
            found.append(_KeyFigure("FLOPs of a reused step", share, "of a computed one"))
            found.append(_KeyFigure("Launches of a reused step", str(reused.launches), f"of {full.launches}"))
    most = max((len(graph.sites) for graph in report.graphs), default=0)
    return [*found, _KeyFigure("Sites found", str(most), "from the graph alone")]


def _charts(report: DemoReport) -> dict[str, Markup]:
    """Draw each chart twice: text in a drawing scales with it, and would be too small on a narrow screen."""
    if not report.cached:
        return {}
    runs = _middle_runs(report)
    drawings = {
        "speed_wide": error_against_speed(report),
        "speed_narrow": error_against_speed(report, width=4.4, height=4.2),
        "drift_wide": error_along_the_way(report, runs),
        "drift_narrow": error_along_the_way(report, runs, width=4.4, height=3.9),
    }
    return {
        name: Markup(svg.replace('class="chart"', f'class="chart {name.split("_")[1]}-only"', 1))
        for name, svg in drawings.items()
    }


def _middle_runs(report: DemoReport) -> list[DemoRun]:
    """Return one run of each method and site, the one of middle cost: all of them would make a tangle."""
    chosen = []
    for pair in dict.fromkeys((run.method, run.site) for run in report.cached):
        runs = sorted((run for run in report.cached if (run.method, run.site) == pair), key=lambda run: run.computed)
        chosen.append(runs[len(runs) // 2])
    return chosen
