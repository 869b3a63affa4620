"""The charts of the report, as SVG text that takes its colours from the page.

Matplotlib draws in stand-in colours; each is then replaced by a CSS variable, so one drawing is right in the light and
in the dark theme. Text stays text: it is sharp, it can be searched, and it uses the page's own typeface.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullFormatter

from fouriercache.figures import format_percent
from fouriercache.report.data import DemoReport, DemoRun
from fouriercache.report.labels import place_labels

_INK, _QUIET, _LINE, _PAPER = "#010101", "#020202", "#030303", "#040404"
_SERIES = ("#0a0101", "#0a0202", "#0a0303", "#0a0404", "#0a0505", "#0a0606")
_VARIABLES = {_INK: "--ink", _QUIET: "--quiet", _LINE: "--line", _PAPER: "--paper"} | {
    colour: f"--series-{index}" for index, colour in enumerate(_SERIES)
}
_MARKERS = {"branch": "o", "block": "D", "stack": "s"}
_DASHES = {"branch": "-", "block": (0, (1, 1.4)), "stack": (0, (4, 2))}

_STYLE: Any = {  # the keys are a long Literal that grows with every matplotlib release
    "svg.fonttype": "none",
    "svg.hashsalt": "fouriercache",
    "font.family": "DejaVu Sans",
    "font.size": 10,
    "text.color": _INK,
    "axes.edgecolor": _LINE,
    "axes.labelcolor": _QUIET,
    "axes.facecolor": "none",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": _LINE,
    "grid.linewidth": 0.7,
    "xtick.color": _LINE,
    "ytick.color": _LINE,
    "xtick.labelcolor": _QUIET,
    "ytick.labelcolor": _QUIET,
    "lines.linewidth": 1.8,
    "legend.frameon": False,
}


@dataclass(frozen=True)
class _Series:
    """Runs that differ only in their interval: one colour for the method, one marker and dash for the site."""

    method: str
    site: str
    colour: str
    runs: tuple[DemoRun, ...]

    @property
    def label(self) -> str:
        return f"{self.method}, {self.site}"


def _series(report: DemoReport) -> list[_Series]:
    methods = list(dict.fromkeys(run.method for run in report.cached))
    pairs = list(dict.fromkeys((run.method, run.site) for run in report.cached))
    return [
        _Series(
            method,
            site,
            _SERIES[methods.index(method) % len(_SERIES)],
            tuple(run for run in report.cached if (run.method, run.site) == (method, site)),
        )
        for method, site in pairs
    ]


def series_colours(report: DemoReport) -> dict[str, str]:
    """Return the CSS variable of each method's colour, so that the page's own marks match the charts."""
    return {series.method: f"var({_VARIABLES[series.colour]})" for series in _series(report)}


def error_against_speed(report: DemoReport, *, width: float = 9.6, height: float = 4.7) -> str:
    """Draw error (logarithmic) over speed-up, a labelled point for each cached run, as SVG text.

    The thin bar to the right of a point ends where the run would stand if a reused step cost nothing.
    Runs with zero error cannot stand on a logarithmic axis; they are left out and the page's table has them.

    Args:
        width, height: inches at 72 points; the page scales the drawing to its column.
    """

    def paint(axes: Axes) -> None:
        errors: list[float] = []
        labels: list[tuple[float, float, str]] = []
        for series in _series(report):
            shown = sorted((r for r in series.runs if r.error > 0), key=report.time_ratio, reverse=True)
            speeds = [1 / report.time_ratio(run) for run in shown]
            heights = [run.error for run in shown]
            errors += heights
            axes.plot(speeds, heights, color=series.colour, linestyle=_DASHES[series.site], linewidth=1.3, alpha=0.75)
            axes.hlines(
                heights, speeds, [1 / run.ideal_ratio for run in shown], color=series.colour, linewidth=4, alpha=0.22
            )
            axes.plot(
                speeds,
                heights,
                color=series.colour,
                linestyle="none",
                marker=_MARKERS[series.site],
                markersize=8,
                markerfacecolor=series.colour if series.site == "branch" else _PAPER,
                markeredgewidth=1.8,
                label=series.label,
            )
            labels += [(x, y, run.setting.split(",")[0]) for run, x, y in zip(shown, speeds, heights, strict=True)]
        axes.set_xlabel("times faster than the uncached loop of this run")
        axes.set_ylabel("relative L2 error of the images")
        _log_percent_axis(axes, errors)
        axes.set_xlim(left=min(1.0, *(1 / report.time_ratio(run) for run in report.cached)) - 0.1)
        axes.legend(loc="lower right", fontsize=9, handlelength=2.4)
        place_labels(axes, labels, size=9, colour=_INK)

    return _draw(paint, width, height, "Image error against speed")


def error_along_the_way(report: DemoReport, runs: Sequence[DemoRun], *, width: float = 9.6, height: float = 3.9) -> str:
    """Draw the error of the latents after each step (logarithmic), a line for each of `runs`, as SVG text.

    Computed steps carry a dot. Steps before the first reused one, which differ by rounding at most, are left out.
    """
    series_of = {run.label: series for series in _series(report) for run in series.runs}

    def paint(axes: Axes) -> None:
        errors: list[float] = []
        for run in runs:
            series = series_of[run.label]
            points = [(step, run.drift[step]) for step in range(run.first_reused, run.steps) if run.drift[step] > 0]
            errors += [value for _, value in points]
            axes.plot(
                [step for step, _ in points],
                [value for _, value in points],
                color=series.colour,
                linestyle=_DASHES[series.site],
                marker=_MARKERS[series.site],
                markersize=4.5,
                markerfacecolor=series.colour if series.site == "branch" else _PAPER,
                markevery=[i for i, (step, _) in enumerate(points) if step in run.schedule],
                label=run.label,
            )
        axes.set_xlabel("step, from noise (0) to image")
        axes.set_ylabel("relative L2 error of the latents")
        _log_percent_axis(axes, errors)
        axes.set_xlim(0, report.uncached.steps - 1)
        axes.legend(loc="lower right", fontsize=9, handlelength=2.4)

    return _draw(paint, width, height, "Error of the latents after each step")


def _log_percent_axis(axes: Axes, values: Sequence[float]) -> None:
    """Scale the y axis logarithmically around `values`, with ticks at 1, 2 and 5 of each decade, in percent."""
    axes.set_yscale("log")
    if values:
        axes.set_ylim(min(values) / 1.8, max(values) * 1.9)
    low, high = axes.get_ylim()
    decades = [m * 10.0**e for e in range(-9, 3) for m in ((1, 2, 5) if high / low < 200 else (1,))]
    axes.yaxis.set_major_locator(FixedLocator([tick for tick in decades if low <= tick <= high]))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: _tick(value)))
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.minorticks_off()


def _tick(value: float) -> str:
    percent = 100 * value
    return f"{percent:g} %" if percent >= 0.001 else format_percent(value)


def _draw(paint: Callable[[Axes], None], width: float, height: float, title: str) -> str:
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(width, height), layout="constrained")
        figure.patch.set_alpha(0)
        paint(figure.add_subplot())
        buffer = io.StringIO()
        FigureCanvasSVG(figure).print_svg(buffer, metadata={"Date": None, "Title": title})
    return _for_page(buffer.getvalue(), title, f"{re.sub(r'[^a-z]+', '-', title.lower())}-{round(10 * width)}")


def _for_page(svg: str, title: str, prefix: str) -> str:
    """Make a stand-alone SVG file a part of a page: no prologue, no metadata, colours and typeface from the page.

    Ids begin with `prefix`: two drawings on one page must not share any.
    """
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"\s*<(metadata|title|style)\b.*?</\1>", "", svg, flags=re.DOTALL)
    svg = re.sub(r' xmlns(:xlink)?="[^"]*"', "", svg)
    svg = svg.replace("xlink:href", "href")
    svg = re.sub(r"'DejaVu Sans'[^;\"]*", "var(--sans)", svg)
    svg = re.sub(r'id="([^"]+)"', rf'id="{prefix}-\1"', svg)
    svg = re.sub(r'href="#([^"]+)"', rf'href="#{prefix}-\1"', svg)
    svg = re.sub(r"url\(#([^)]+)\)", rf"url(#{prefix}-\1)", svg)
    for colour, variable in _VARIABLES.items():
        svg = svg.replace(colour, f"var({variable})")
    svg = re.sub(
        r'<svg (.*?)width="[^"]*"',
        rf'<svg \1class="chart" role="img" aria-label="{title}"',
        svg,
        count=1,
        flags=re.DOTALL,
    )
    return re.sub(r'(<svg [^>]*?)height="[^"]*"', r"\1", svg, count=1)
