"""Labels beside the points of a chart, placed so that they cover neither each other nor the points."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from matplotlib.axes import Axes
from matplotlib.transforms import Bbox


@dataclass(frozen=True)
class _Corner:
    """Where a label stands, seen from its point."""

    x: Literal[-1, 1]
    y: Literal[-1, 1]


_CORNERS = (_Corner(1, -1), _Corner(-1, 1), _Corner(1, 1), _Corner(-1, -1))
_GAP = 6.0
"""Distance from a point to its label along each axis, points; half the size of a marker and a little more."""


def place_labels(axes: Axes, points: Sequence[tuple[float, float, str]], *, size: float, colour: str) -> None:
    """Write a label beside each point, in the corner where it covers the least of what is already there.

    The axes' limits must be final. Labels are placed one after the other; a corner earlier in the list wins a tie.

    Args:
        points: x, y in data coordinates, and the text.
        size: of the letters, points.
    """
    figure = axes.get_figure(root=True)
    if figure is None:
        raise ValueError("the axes belong to no figure, so nothing is known of their size")
    figure.draw_without_rendering()
    scale = figure.dpi / 72
    spots = [tuple(map(float, axes.transData.transform((x, y)))) for x, y, _ in points]
    taken = [Bbox.from_bounds(x - _GAP * scale, y - _GAP * scale, 2 * _GAP * scale, 2 * _GAP * scale) for x, y in spots]
    for (x, y, text), (left, bottom) in zip(points, spots, strict=True):
        boxes = {corner: _box(left, bottom, text, corner, size, scale) for corner in _CORNERS}
        best = min(_CORNERS, key=lambda corner: sum(_overlap(boxes[corner], other) for other in taken))
        taken.append(boxes[best])
        axes.annotate(
            text,
            (x, y),
            xytext=(_GAP * best.x, _GAP * best.y),
            textcoords="offset points",
            ha="left" if best.x > 0 else "right",
            va="bottom" if best.y > 0 else "top",
            fontsize=size,
            color=colour,
        )


def _box(x: float, y: float, text: str, corner: _Corner, size: float, scale: float) -> Bbox:
    """The box of a label in pixels; a letter is about 0.62 of its size wide."""
    width, height, gap = 0.62 * size * len(text) * scale, size * scale, _GAP * scale
    left = x + gap if corner.x > 0 else x - gap - width
    bottom = y + gap if corner.y > 0 else y - gap - height
    return Bbox.from_bounds(left, bottom, width, height)


def _overlap(one: Bbox, other: Bbox) -> float:
    shared = Bbox.intersection(one, other)
    return 0.0 if shared is None else float(shared.width * shared.height)
