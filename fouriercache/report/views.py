"""What the page shows, as strings and plain values: one dataclass for each kind of row, and how it is made."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from markupsafe import Markup

from fouriercache.figures import format_bytes, format_count, format_percent, format_ratio, format_speedup
from fouriercache.report.data import DemoReport, DemoRun, GraphFacts, ModeRow
from fouriercache.report.highlight import block_text, find_slots, highlight
from fouriercache.report.images import data_address, difference
from fouriercache.runtime.tables import SiteGroup, SiteRow, group_sites

NEUTRAL = "var(--quiet)"
"""The colour of what belongs to no method."""


@dataclass(frozen=True)
class _Cell:
    """One image and its difference to the uncached one, as data addresses."""

    name: str
    image: str
    difference: str
    height: int
    width: int


@dataclass(frozen=True)
class _Row:
    """One run, in the image matrix and in the table."""

    run: DemoRun
    colour: str
    cells: tuple[_Cell, ...]
    ratio: str
    ideal: str
    speedup: str
    error: str
    cache: str
    percent: float
    ideal_percent: float
    slower: bool


@dataclass(frozen=True)
class _Strip:
    """The schedule of one setting: a cell for each step, true where it is computed."""

    name: str
    sites: str
    colour: str
    cells: tuple[bool, ...]

    @property
    def count(self) -> int:
        """How many steps are computed."""
        return sum(self.cells)


@dataclass(frozen=True)
class _SiteTable:
    """The sites that answer one question: branch, block or stack."""

    title: str
    sites: tuple[SiteRow, ...]
    groups: list[SiteGroup]


@dataclass(frozen=True)
class _CostRow:
    """One quantity of a reused step, prepared and not, beside that of a computed one; widths are in percent."""

    name: str
    compute: str
    prepared: str
    share: str
    width: float
    unprepared_width: float
    unprepared: str


@dataclass(frozen=True)
class _PredictedRow:
    """A loop's time ratio as measured, and as the cost model has it."""

    label: str
    measured: str
    here: str
    there: str
    flops: str
    memory: str


@dataclass(frozen=True)
class _ProgramView:
    """A program's text, marked up."""

    title: str
    text: Markup
    lines: int


def build_row(report: DemoReport, run: DemoRun, colours: Mapping[str, str]) -> _Row:
    """Build the row of one run."""
    ratio = report.time_ratio(run)
    cells = tuple(
        _Cell(name, data_address(image), data_address(difference(image, reference)), image.shape[0], image.shape[1])
        for name, image, reference in zip(report.class_names, run.images, report.uncached.images, strict=True)
    )
    return _Row(
        run=run,
        colour=colours.get(run.method, NEUTRAL),
        cells=cells,
        ratio=format_ratio(ratio),
        ideal=format_ratio(run.ideal_ratio),
        speedup=format_speedup(ratio),
        error="–" if run.is_uncached else format_percent(run.error),
        cache="–" if run.is_uncached else format_bytes(run.cache_bytes),
        percent=round(min(100.0, 100 * ratio), 2),
        ideal_percent=round(100 * run.ideal_ratio, 2),
        slower=ratio > 1,
    )


def build_strips(report: DemoReport, colours: Mapping[str, str]) -> list[_Strip]:
    """Build one strip for each schedule; runs that differ only in their site share it."""
    groups: dict[tuple[str, tuple[int, ...]], list[DemoRun]] = {}
    for run in report.cached:
        groups.setdefault((f"{run.method} {run.setting}", run.schedule), []).append(run)
    return [
        _Strip(
            name=name,
            sites=" and ".join(run.site for run in runs),
            colour=colours[runs[0].method],
            cells=tuple(step in schedule for step in range(runs[0].steps)),
        )
        for (name, schedule), runs in groups.items()
    ]


def build_site_tables(report: DemoReport) -> list[_SiteTable]:
    """Build one table for each kind of site: the sites do not depend on the method."""
    first = {graph.site: graph for graph in reversed(report.graphs)}
    return [
        _SiteTable(f"{site.capitalize()} sites", first[site].sites, group_sites(first[site].sites))
        for site in dict.fromkeys(graph.site for graph in report.graphs)
    ]


def build_cost_rows(graph: GraphFacts) -> list[_CostRow]:
    """Build the three quantities of a reused step beside those of a computed one."""
    full, reused, prepared = (graph.mode(name) for name in ("compute", "reuse", "prepared"))

    def row(name: str, of: Callable[[ModeRow], int], form: Callable[[int], str]) -> _CostRow:
        def share(mode: ModeRow) -> float:
            return of(mode) / of(full) if of(full) else 0.0

        return _CostRow(
            name,
            form(of(full)),
            form(of(prepared)),
            format_percent(share(prepared)),
            width=round(min(100, 100 * share(prepared)), 2),
            unprepared_width=round(min(100, 100 * share(reused)), 2),
            unprepared=f"{form(of(reused))}, {format_percent(share(reused))}",
        )

    return [
        row("FLOPs", lambda mode: mode.flops, format_count),
        row("Launches", lambda mode: mode.launches, str),
        row("Weights read", lambda mode: mode.weight_bytes, format_bytes),
    ]


def build_predictions(report: DemoReport) -> list[_PredictedRow]:
    """Build a row for each predicted loop, with what its run really took beside it."""
    measured = {run.label: report.time_ratio(run) for run in report.cached}
    return [
        _PredictedRow(
            found.label,
            format_ratio(measured[found.label]),
            format_ratio(found.here),
            format_ratio(found.there),
            format_ratio(found.flops),
            format_bytes(found.memory),
        )
        for found in report.predictions
        if found.label in measured
    ]


def mark_programs(graph: GraphFacts) -> list[_ProgramView]:
    """Mark up four texts: one block in the canonical form and in the reused step, then both programs whole."""

    def view(title: str, text: str, whole: str) -> _ProgramView:
        return _ProgramView(title, highlight(text, find_slots(whole)), len(text.splitlines()))

    return [
        view(f"{graph.block}, canonical", block_text(graph.canonical, graph.block), graph.canonical),
        view(f"{graph.block}, what a reused step runs", block_text(graph.reuse, graph.block), graph.reuse),
        view("The whole canonical form", graph.canonical, graph.canonical),
        view("The whole reused step", graph.reuse, graph.reuse),
    ]
