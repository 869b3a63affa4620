"""Pictures of results that have none of their own, from their JSON: `benchmarks/results/<name>.svg`."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from curves import Curve, draw_curves, save
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Bar:
    """A measured value with its quartiles, in one of a few colours, and the most that was asked of it, if anything."""

    name: str
    value: Mapping[str, float]
    is_ours: bool
    limit: float | None = None


def draw_bars(file: Path, what: str, bars: Sequence[Bar], *, floor: float | None = None) -> None:
    """Write horizontal bars with a whisker between the quartiles; a short red line is a limit, a dotted one `floor`."""
    figure = Figure(figsize=(8, 0.8 + 0.24 * len(bars)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for number, bar in enumerate(reversed(bars)):
        middle = bar.value["median"]
        spread = [[middle - bar.value["low"]], [bar.value["high"] - middle]]
        axes.barh(number, middle, height=0.66, color="#3b6fb5" if bar.is_ours else "#b9bec7")
        axes.errorbar(middle, number, xerr=spread, color="#222222", linewidth=0.9, capsize=2)
        if bar.limit is not None:
            axes.vlines(bar.limit, number - 0.45, number + 0.45, color="#c0392b", linewidth=1.6)
    if floor is not None:
        axes.axvline(floor, color="#444444", linestyle=":", linewidth=1)
    axes.set_yticks(range(len(bars)), [bar.name for bar in reversed(bars)], fontsize=7)
    axes.set_xlabel(what)
    axes.grid(visible=True, axis="x", linewidth=0.4, alpha=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    save(figure, file)


def draw_loops(found: Row, file: Path) -> None:
    """Time over the ideal of each loop that has one below 1."""
    limits = _limits(found, ": time over ideal")
    bars = [
        Bar(row["name"], row["over_ideal"], "fouriercache" in row["name"], limits.get(row["name"]))
        for row in found["rows"]
        if row["ideal"] < 1
    ]
    draw_bars(file, "time over the ideal; 1 is a cache that costs nothing", bars, floor=1)


def draw_cached_steps(found: Row, file: Path) -> None:
    """What each cached step costs of a full one, and the same by hand."""
    limits = _limits(found, ": cached over full")
    bars = []
    for row in found["rows"]:
        if row.get("cached_percent") is not None:
            how = "prepared" if row["prepared"] else "not prepared"
            name = f"{row['backend']}, {row['site']} sites, {row['method']}, {how}"
            limit = limits.get(name)
            bars.append(Bar(name, row["cached_percent"], is_ours=True, limit=limit and 100 * limit))
            if row.get("hand_percent") is not None:
                bars.append(Bar("by hand", row["hand_percent"], is_ours=False))
    draw_bars(file, "a cached step over a full step of the original module, %", bars)


def draw_passes(found: Row, file: Path) -> None:
    """Seconds of capture, which is the same for all sites, and of the passes over depth."""
    curves: list[Curve] = []
    for site in dict.fromkeys(row["site"] for row in found["rows"]):
        rows = [row for row in found["rows"] if row["site"] == site]
        x = tuple(float(row["layers"]) for row in rows)
        captured = tuple(float(row["capture_seconds"]) for row in rows)
        passed = tuple(float(row["pass_seconds"]["median"]) for row in rows)
        if not curves:
            curves.append(Curve("blocks", "capture", x, captured, dashed=True))
        curves.append(Curve("blocks", f"passes, {site} sites", x, passed))
    draw_curves(file, "CPU seconds", curves)


def _limits(found: Row, ending: str) -> dict[str, float]:
    checks = (check for check in found["checks"] if check["what"].endswith(ending))
    return {check["what"].removesuffix(ending): check["limit"] for check in checks}


PLOTS: dict[str, Callable[[Row, Path], None]] = {
    "loop": draw_loops,
    "ort_loop": draw_loops,
    "step_cost": draw_cached_steps,
    "pass_scaling": draw_passes,
}


def draw(name: str, folder: Path) -> None:
    """Draw a result of a folder, if it has a picture here and has been measured."""
    source = folder / f"{name}.json"
    if name in PLOTS and source.exists():
        PLOTS[name](json.loads(source.read_text()), folder / f"{name}.svg")
