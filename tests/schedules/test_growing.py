"""Growing against the published counters, written down here a second time."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fouriercache.errors import MethodError, TrajectoryError
from fouriercache.schedules import Growing, Schedule


def spectrum_steps(num_steps: int, warmup: int, window_size: float, flex_window: float) -> list[int]:
    """Spectrum, src/pipelines/flux_forward.py: a count of consecutive cached steps and a window that grows."""
    computed = []
    consecutive, window = 0, window_size
    for step in range(num_steps):
        actual = True
        if step >= warmup:
            actual = (consecutive + 1) % math.floor(window) == 0
            if actual:
                window = round(window + flex_window, 3)
        if actual:
            computed.append(step)
            consecutive = 0
        else:
            consecutive += 1
    return computed


@settings(deadline=None)
@given(
    st.integers(1, 120),
    st.integers(1, 8),
    st.floats(1, 6),
    st.sampled_from([0, 0.25, 0.75, 1, 3]) | st.floats(0, 4),
)
def test_growing_is_the_published_counter(num_steps: int, warmup: int, window: float, alpha: float) -> None:
    schedule = Growing(alpha, window, warmup)
    expected = spectrum_steps(num_steps, warmup, window, alpha)
    assert schedule.steps(num_steps) == tuple(expected)
    assert [step for step in range(num_steps) if schedule.is_computed(step, num_steps)] == expected
    assert [step for step in range(num_steps) if schedule.is_computed(step, None)] == expected


def test_published_setting_computes_14_of_50_steps() -> None:
    assert Growing().steps(50) == (0, 1, 2, 3, 4, 6, 8, 11, 15, 20, 25, 31, 38, 46)


def test_gaps_grow_and_never_shrink() -> None:
    steps = Growing(alpha=0.4, window=1.5, warmup=1).steps(200)
    assert steps is not None
    gaps = [after - before for before, after in pairwise(steps)]
    assert gaps == sorted(gaps)
    assert gaps[0] == 1
    assert gaps[-1] > 5


def test_growing_does_not_need_the_number_of_steps() -> None:
    assert not Growing().needs_num_steps
    assert Growing().steps(None) is None
    assert isinstance(Growing(), Schedule)


@pytest.mark.parametrize("step", [-1, 10])
def test_step_outside_the_trajectory_is_refused(step: int) -> None:
    with pytest.raises(TrajectoryError, match=f"Step {step} is not in a trajectory of 10 steps"):
        Growing().is_computed(step, 10)


@pytest.mark.parametrize("num_steps", [0, -5, True, 50.0])
def test_wrong_number_of_steps_is_refused(num_steps: int) -> None:
    with pytest.raises(MethodError, match="needs num_steps to be"):
        Growing().steps(num_steps)


@pytest.mark.parametrize(
    ("fields", "fault"),
    [
        ({"alpha": -0.1}, "alpha to be finite and at least 0"),
        ({"alpha": float("inf")}, "alpha to be finite and at least 0"),
        ({"alpha": "1"}, "alpha to be a number"),
        ({"window": 0.9}, "window to be finite and at least 1"),
        ({"window": None}, "window to be a number"),
        ({"warmup": 0}, "warmup to be at least 1"),
        ({"warmup": 1.0}, "warmup to be a whole number"),
    ],
)
def test_wrong_fields_are_refused(fields: dict[str, Any], fault: str) -> None:
    with pytest.raises(MethodError, match=f"Growing needs {fault}"):
        Growing(**fields)
