"""What the commands print: the same values as the page, as rich tables."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from fouriercache.calibrations import Calibration
from fouriercache.figures import (
    format_bytes,
    format_percent,
    format_ratio,
    format_speedup,
)
from fouriercache.report.data import DemoReport, GraphFacts
from fouriercache.report.environment import Finding, State
from fouriercache.report.gain import Gain
from fouriercache.report.stopwatch import Bench
from fouriercache.runtime.estimates import CostEstimate
from fouriercache.runtime.tables import (
    TextTable,
    cost_lines,
    cost_table,
    grid_text,
    modes_table,
    refused_table,
    sites_table,
)

_STATES: dict[State, tuple[str, str]] = {
    "good": ("ok", "green"),
    "missing": ("--", "yellow"),
    "bad": ("!!", "bold red"),
}


def _table(title: str, *columns: str, numbers: Iterable[str] = ()) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", box=None, header_style="dim", pad_edge=False)
    right = set(numbers)
    for column in columns:
        table.add_column(column, justify="right" if column in right else "left", no_wrap=column in right)
    return table


def draw_runs(report: DemoReport) -> RenderableType:
    """Draw the demo's result: one line a run, the checks below."""
    numbers = ("computed", "time", "ideal", "error", "cache")
    table = _table("Time relative to the uncached loop of this run", "method", "site", *numbers, numbers=numbers)
    for run in report.runs:
        ratio = report.time_ratio(run)
        table.add_row(
            Text(f"{run.method} {run.setting}".rstrip()),
            run.site,
            f"{run.computed} of {run.steps}",
            Text(format_ratio(ratio), style="red" if ratio > 1 else ""),
            format_ratio(run.ideal_ratio),
            "-" if run.is_uncached else format_percent(run.error),
            "-" if run.is_uncached else format_bytes(run.cache_bytes),
        )
    lines: list[RenderableType] = [table, Text()]
    for check in report.checks:
        mark, style = _STATES["good" if check.passed else "bad"]
        lines.append(Text.assemble((mark, style), f" {check.name}: {check.detail}"))
    return Group(*lines)


def draw_plan(rows: Sequence[tuple[str, int]], steps: int) -> RenderableType:
    """Draw what a demo would run: (label, computed steps) for each loop."""
    table = _table(f"Loops of {steps} steps", "loop", "computed", "ideal", numbers=("computed", "ideal"))
    for label, computed in rows:
        table.add_row(Text(label), str(computed), format_ratio(computed / steps))
    return table


def draw_calibration(found: Calibration) -> RenderableType:
    """Draw what `calibrate` found: the steps, and the error of each stage."""
    meanings = {
        "uniform": "steps spaced evenly",
        "start": "dynamic programming",
        "found": "search",
        "fitted": "with scalars fitted to features",
        "refined": "with scalars refined against the result",
    }
    table = _table("Error of the final images against the uncached ones", "", "error", numbers=("error",))
    for name, error in found.errors.items():
        table.add_row(meanings.get(name, name), format_percent(error))
    if found.worst_neighbour is not None:
        errors = sorted(error for _, error in found.neighbours)
        table.add_row("one step moved by one: median", format_percent(errors[len(errors) // 2]))
        table.add_row("one step moved by one: worst", format_percent(found.worst_neighbour))
    parts: list[RenderableType] = [Text(found.method, style="dim"), Text(), table, Text()]
    if found.polynomial is not None:
        powers = ", ".join(f"{value:.9g}" for value in found.polynomial.coefficients)
        low, high = found.polynomial.low, found.polynomial.high
        parts = [Text(found.method, style="dim"), Text(), Text(f"Polynomial: {powers}")]
        parts.append(Text(f"Fitted on distances from {low:.4g} to {high:.4g}, R2 {found.r_squared:.3f}"))
    else:
        parts.append(Text(f"Computed steps: {', '.join(map(str, found.steps))}"))
    return Group(*parts)


def draw_facts(facts: GraphFacts) -> RenderableType:
    """Draw what `inspect` found: sites, what was left alone, the grid, the cost of each mode."""
    modes = [(mode.mode, mode.flops, mode.launches, mode.weight_bytes) for mode in facts.modes]
    parts: list[RenderableType] = [Text(facts.label, style="bold")]
    refused = [(refusal.pass_name, refusal.reason, refusal.node) for refusal in facts.refusals]
    tables = (sites_table(facts.sites), refused_table(refused), grid_text(facts.grid), modes_table(modes, facts.batch))
    for part in tables:
        parts += [Text(), Text(part) if isinstance(part, str) else _draw(part)]
    return Group(*parts)


def _draw(found: TextTable) -> Table:
    table = _table(found.title, *found.columns, numbers=found.numbers)
    for row in found.rows:
        table.add_row(*map(Text, row))
    return table


def draw_gain(gain: Gain) -> RenderableType:
    """Draw what a method saves in a trajectory."""
    lines = ["", f"Kept features: {format_bytes(gain.kept)} for each pass, at this batch"]
    if gain.computed is None or gain.flops is None:
        lines.append(f"Computed steps: decided as the {gain.steps} steps run")
    else:
        lines.append(f"Computed steps: {gain.computed} of {gain.steps}")
        share, times = format_ratio(gain.flops), format_speedup(gain.flops)
        lines.append(f"FLOPs of a trajectory: {share} of those of all steps computed, {times} by FLOPs")
    return Group(*(Text(line) for line in lines))


def draw_cost(cost: CostEstimate) -> RenderableType:
    """Draw what steps and a trajectory are predicted to cost on a device."""
    return Group(_draw(cost_table(cost)), Text(), *map(Text, cost_lines(cost)))


def draw_bench(title: str, bench: Bench) -> RenderableType:
    """Draw the times of the kinds of steps, and the loop's ratio."""
    numbers = ("calls", "median", "quartiles", "CPU")
    table = _table(title, "", *numbers, numbers=numbers)
    for timing in bench.timings:
        low, high = (f"{1e3 * seconds:.2f}" for seconds in timing.quartiles)
        times = (f"{1e3 * timing.seconds:.2f} ms", f"{low}..{high}", f"{1e3 * timing.cpu_seconds:.2f} ms")
        table.add_row(timing.name, str(timing.calls), *times)
    least, most = format_ratio(min(bench.ratios)), format_ratio(max(bench.ratios))
    ratio = f"Loop: {format_ratio(bench.ratio)} of the original's time ({least}..{most})"
    ideal = f"{bench.computed} of {bench.steps} steps computed: ideal {format_ratio(bench.ideal)}"
    over = f"time / ideal {format_ratio(bench.ratio / bench.ideal)}"
    memory = f"Kept features {format_bytes(bench.cache_bytes)}, held in all {format_bytes(bench.held_bytes)}"
    for most_bytes, where in ((bench.resident_bytes, "process"), (bench.device_bytes, "GPU")):
        if most_bytes is not None:
            memory += f"; {where} at most {format_bytes(most_bytes)}"
    return Group(table, Text(), Text(ratio), Text(f"{ideal}, {over}"), Text(memory))


def draw_findings(findings: Sequence[Finding]) -> RenderableType:
    """Draw what `doctor` found, group by group, with what to do where something is not there."""
    table = Table(box=None, show_header=False, pad_edge=False)
    for column in range(4):
        table.add_column(no_wrap=column < 2)
    group = ""
    for finding in findings:
        if finding.group != group:
            if group:
                table.add_row()
            group = finding.group
            table.add_row(Text(group, style="bold"))
        mark, style = _STATES[finding.state]
        table.add_row(
            Text(finding.name), Text(mark, style=style), Text(finding.value), Text(finding.advice, style="cyan")
        )
    return table
