"""Labels beside the points of a chart."""

from __future__ import annotations

import itertools

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Annotation
from matplotlib.transforms import Bbox

from fouriercache.report.labels import place_labels


def written(points: list[tuple[float, float, str]]) -> list[Bbox]:
    """Place labels on unit axes of 400 by 300 pixels; return their boxes as drawn."""
    figure = Figure(figsize=(4, 3), dpi=100)
    canvas = FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1)
    place_labels(axes, points, size=9, colour="black")
    canvas.draw()
    found = [child for child in axes.get_children() if isinstance(child, Annotation)]
    assert [label.get_text() for label in found] == [text for _, _, text in points]
    return [label.get_window_extent(canvas.get_renderer()) for label in found]


@pytest.mark.parametrize(("count", "step"), [(2, 0.01), (2, 0.03), (4, 0.0), (4, 0.05), (4, 0.08)])
def test_points_close_together_have_labels_that_do_not_overlap(count: int, step: float):
    boxes = written([(0.5 + k * step, 0.5 + k * step, f"N={k}") for k in range(count)])
    assert not any(one.overlaps(other) for one, other in itertools.combinations(boxes, 2))


def test_a_lone_label_stands_to_the_lower_right():
    (box,) = written([(0.5, 0.5, "N=3")])
    (other,) = written([(0.4, 0.6, "N=3")])
    assert box.x0 > other.x0
    assert box.y0 < other.y0


def test_no_point_is_no_label():
    assert written([]) == []
