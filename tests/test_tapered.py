"""ToCa's schedule against the published rule, written as the published code runs it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fouriercache.errors import MethodError, TrajectoryError
from fouriercache.schedules import Place, SiteSchedule, Tapered

PLACES = [Place(layer, kind) for layer in range(3) for kind in ("attention", "mlp")]


def published_steps(num_steps: int, n: int) -> list[list[str]]:
    """The type of each of three blocks at each step: cal_type.py, force_init.py and force_scheduler.py in one loop."""
    found = []
    threshold: Any = n
    for index in range(num_steps - 1, -1, -1):
        kinds = []
        for layer in range(3):
            interval = n if index == num_steps - 1 else threshold
            is_full = index == num_steps - 1 or index % interval == 0
            if is_full and layer == 0:
                factor = torch.tensor(1 + 0.4 - 2 * 0.4 * index / num_steps)
                threshold = torch.round(n / factor)
                if index in range(int(num_steps * 0.2), int(num_steps * 0.4)):
                    threshold = 2
            kinds.append("full" if is_full else "ToCa")
        found.append(kinds)
    return found


@settings(max_examples=80, deadline=None)
@given(st.integers(1, 260), st.integers(2, 12))
def test_computes_what_the_published_code_computes(num_steps: int, n: int):
    schedule = Tapered(n, published=True)
    for step, kinds in enumerate(published_steps(num_steps, n)):
        assert schedule.is_computed(step, num_steps) == (set(kinds) == {"full"})
        first_alone = () if len(set(kinds)) == 1 else (0, 1)
        assert schedule.refreshed(step, num_steps, PLACES) == first_alone


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 120), st.integers(1, 12))
def test_without_the_odd_steps_all_blocks_do_what_the_first_does(num_steps: int, n: int):
    published = published_steps(num_steps, n)
    steps = tuple(step for step, kinds in enumerate(published) if kinds[0] == "full")
    schedule = Tapered(n)
    assert schedule.steps(num_steps) == steps
    assert all(schedule.refreshed(step, num_steps, PLACES) == () for step in range(num_steps))


def test_the_published_command_has_eighteen_steps_and_two_odd_ones():
    schedule = Tapered(3, published=True)
    steps = schedule.steps(50)
    assert steps is not None
    assert [49 - step for step in steps] == [49, 44, 40, 36, 30, 27, 24, 21, 18, 16, 14, 12, 10, 8, 6, 4, 2, 0]
    assert [49 - step for step in range(50) if schedule.refreshed(step, 50, PLACES)] == [45, 32]


def test_no_taper_is_an_interval_from_the_end():
    assert Tapered(3, taper=0).steps(10) == (0, 3, 6, 9)
    assert Tapered(1).steps(5) == (0, 1, 2, 3, 4)


def test_is_a_schedule_of_sites_that_needs_the_number_of_steps():
    schedule = Tapered(3)
    assert isinstance(schedule, SiteSchedule)
    assert schedule.needs_num_steps
    assert schedule.steps(None) is None
    with pytest.raises(MethodError, match="Pass num_steps= to optimize"):
        schedule.is_computed(0, None)


@pytest.mark.parametrize("step", [-1, 10])
def test_step_outside_the_trajectory_is_refused(step: int):
    for ask in (Tapered(3).is_computed, lambda step, count: Tapered(3).refreshed(step, count, PLACES)):
        with pytest.raises(TrajectoryError, match=f"Step {step} is not in a trajectory of 10 steps"):
            ask(step, 10)


@pytest.mark.parametrize(
    ("fields", "fault"),
    [
        ({"n": 0}, "needs n to be at least 1"),
        ({"n": 2.0}, "needs n to be a whole number"),
        ({"n": 3, "taper": -0.1}, "needs taper to be finite and at least 0"),
        ({"n": 3, "taper": 1.0}, "needs taper below 1"),
        ({"n": 3, "taper": "0.4"}, "needs taper to be a number"),
    ],
)
def test_wrong_fields_are_refused(fields: dict[str, Any], fault: str):
    with pytest.raises(MethodError, match=fault):
        Tapered(**fields)
