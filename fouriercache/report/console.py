"""What the commands print: the same values as the page, as rich tables."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from fouriercache.calibrations import Calibration
from fouriercache.report.data import DemoReport, GraphFacts
from fouriercache.report.environment import Finding, State
from fouriercache.report.figures import (
    format_bytes,
    format_count,
    format_duration,
    format_percent,
    format_ratio,
    format_speedup,
)
from fouriercache.report.gain import Gain
from fouriercache.report.stopwatch import Bench
from fouriercache.report.views import build_cost_rows, group_sites
from fouriercache.runtime.estimates import CostEstimate

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
    sites = _table("Sites", "kind", "blocks", "shape", "gate", "found", numbers=("found",))
    for group in group_sites(facts.sites):
        gate = "yes" if group.gated else "no"
        sites.add_row(group.kind, Text(group.blocks), Text(f"[{group.shape}]"), gate, str(group.count))
    parts: list[RenderableType] = [Text(facts.label, style="bold"), Text(), sites, Text()]
    if facts.refusals:
        refused = _table("Left alone, and why", "pass", "reason", "node")
        for refusal in facts.refusals:
            refused.add_row(refusal.pass_name, Text(refusal.reason), Text(refusal.node))
        parts += [refused, Text()]
    else:
        parts += [Text("Nothing was left alone."), Text()]
    if facts.grid is None:
        parts += [Text("Token grid: not found"), Text()]
    else:
        grid = facts.grid
        parts += [Text(f"Token grid: {grid.t} x {grid.h} x {grid.w}, first token at {grid.start}"), Text()]
    numbers = ("FLOPs", "launches", "weights read")
    costs = _table("Cost of one call", "mode", *numbers, numbers=numbers)
    names = {"prepared": "reuse, prepared"}
    for mode in facts.modes:
        cells = (format_count(mode.flops), str(mode.launches), format_bytes(mode.weight_bytes))
        costs.add_row(names.get(mode.mode, mode.mode), *cells)
    costs.add_row("prepared / compute", *(row.share for row in build_cost_rows(facts)), style="dim")
    return Group(*parts, costs)


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
    numbers = ("FLOPs", "launches", "moved", "time", "memory")
    table = _table(f"Predicted for {cost.device.name}, batch {cost.batch}", "step", *numbers, numbers=numbers)
    for mode, step in cost.modes.items():
        table.add_row(
            mode,
            format_count(step.flops),
            str(step.launches),
            format_bytes(step.moved),
            format_duration(step.seconds),
            format_bytes(step.memory),
        )
    fits = "" if cost.fits else f": more than the {format_bytes(cost.device.memory or 0)} that it has"
    lines = [
        "",
        f"Weights {format_bytes(cost.weights)}, kept features {format_bytes(cost.cache)}, hoisted values "
        f"{format_bytes(cost.hoisted)}; at most {format_bytes(cost.peak_memory)} at once{fits}",
    ]
    found = cost.trajectory
    if found is None:
        lines.append("Computed steps are decided as they run: give them to see a trajectory")
    else:
        lines.append(
            f"Trajectory: {len(found.computed)} of {found.steps} steps computed, "
            f"{format_speedup(1 / found.flops_speedup)} by FLOPs, {format_speedup(1 / found.speedup)} by time "
            f"({format_duration(found.original.seconds)} to {format_duration(found.cached.seconds)})"
        )
    return Group(table, *(Text(line) for line in lines))


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
