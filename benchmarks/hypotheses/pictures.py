"""Plots of the findings, as small PNG files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from .finding import Finding, Picture


def draw_pictures(folder: Path, findings: Sequence[Finding]) -> None:
    """Write every finding's plots."""
    folder.mkdir(parents=True, exist_ok=True)
    for picture in (picture for finding in findings for picture in finding.pictures):
        draw(picture).savefig(folder / picture.file, dpi=80, metadata={"Software": None})


def draw(picture: Picture) -> Figure:
    """Return the plot."""
    figure = Figure(figsize=(7.5, 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for name, x, y in picture.series:
        axes.plot(x, y, label=name, linewidth=1.4, marker="o" if len(x) < 20 else "", markersize=3)
    if picture.is_logarithmic:
        axes.set_yscale("log")
    axes.set_title(picture.title, fontsize=11, loc="left")
    axes.set_xlabel(picture.x_label)
    axes.set_ylabel(picture.y_label)
    axes.grid(visible=True, linewidth=0.4, alpha=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=9)
    return figure
