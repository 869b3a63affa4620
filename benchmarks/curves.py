"""Curves of a result, side by side in one small picture: PNG or SVG, by the name of the file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from matplotlib import rc_context
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure


@dataclass(frozen=True)
class Curve:
    """One line over what is varied; curves that vary the same thing share a panel."""

    varied: str
    name: str
    x: tuple[float, ...]
    y: tuple[float, ...]
    dashed: bool = False


def draw_curves(file: Path, what: str, curves: Sequence[Curve], *, is_logarithmic: bool = True) -> None:
    """Write one panel for each thing that is varied."""
    panels = list(dict.fromkeys(curve.varied for curve in curves))
    names = {varied: {curve.name for curve in curves if curve.varied == varied} for varied in panels}
    is_shared = len(panels) > 1 and all(found == names[panels[0]] for found in names.values())
    figure = Figure(figsize=(3.2 * len(panels), 3.4 + 0.4 * is_shared), layout="constrained")
    FigureCanvasAgg(figure)
    for number, varied in enumerate(panels):
        axes = figure.add_subplot(1, len(panels), number + 1)
        for curve in (curve for curve in curves if curve.varied == varied):
            style = "--" if curve.dashed else "-"
            axes.plot(curve.x, curve.y, style, label=curve.name, linewidth=1.3, marker="o", markersize=3)
        if is_logarithmic:
            axes.set_xscale("log", base=2)
            axes.set_yscale("log")
        else:
            axes.set_ylim(bottom=0)  # differences look as large as they are
        axes.set_xlabel(varied)
        if number == 0:
            axes.set_ylabel(what)
        axes.grid(visible=True, linewidth=0.4, alpha=0.6)
        axes.spines[["top", "right"]].set_visible(False)
        if not is_shared:
            axes.legend(frameon=False, fontsize=7)
        elif number == 0:  # the panels are of the same lines: one legend below them all
            figure.legend(
                *axes.get_legend_handles_labels(), loc="outside lower center", ncols=4, frameon=False, fontsize=7
            )
    save(figure, file)


def save(figure: Figure, file: Path) -> None:
    """Write a picture in the form that its name says. The same one is the same file: no time is in it."""
    unsaid = {"Date": None} if file.suffix == ".svg" else {"Software": None}
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "fouriercache"}):
        figure.savefig(file, dpi=90, metadata=unsaid)
