"""Schedules against the published rules, written down here a second time in the published code's own counting."""

import re
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fouriercache.errors import MethodError, TrajectoryError
from fouriercache.schedules import FixedSchedule, Interval, Schedule, Table

unhurried = settings(deadline=None)  # the machine may be busy; these tests are about values

lengths = st.integers(1, 120)
intervals = st.builds(Interval, st.integers(1, 15), st.integers(1, 6), st.sampled_from(["first", "last"]))
tables = st.sets(st.integers(1, 119)).map(lambda later: Table((0, *sorted(later))))


def taylorseer_steps(num_steps: int, interval: int, first_enhance: int) -> list[int]:
    """TaylorSeer-DiT, cache_functions/cal_type.py: i counts down, a counter holds the steps cached since a full."""
    computed = []
    counter = 0
    for i in range(num_steps - 1, -1, -1):
        if i > num_steps - first_enhance - 1 or counter == interval - 1:
            counter = 0
            computed.append(num_steps - 1 - i)
        else:
            counter += 1
    return computed


def fora_steps(num_steps: int, interval: int) -> list[int]:
    """FORA, src/models.py: i counts down."""
    return [num_steps - 1 - i for i in range(num_steps - 1, -1, -1) if i == num_steps - 1 or i % interval == 0]


def count(schedule: Schedule, num_steps: int) -> int:
    steps = schedule.steps(num_steps)
    assert steps is not None
    return len(steps)


@pytest.mark.parametrize(("n", "computed"), [(3, 18), (5, 11)])
def test_fora_computes_the_published_number_of_50_steps(n: int, computed: int) -> None:
    assert count(Interval(n, warmup=1, anchor="last"), 50) == computed


@pytest.mark.parametrize(("n", "computed"), [(3, 18), (4, 14), (5, 11), (6, 10), (7, 8), (9, 7)])
def test_taylorseer_for_dit_computes_the_published_number_of_50_steps(n: int, computed: int) -> None:
    assert count(Interval(n, warmup=2, anchor="first"), 50) == computed


@pytest.mark.parametrize(("n", "computed"), [(3, 18), (4, 14), (5, 12), (6, 10), (7, 9), (9, 8)])
def test_taylorseer_for_flux_computes_the_published_number_of_50_steps(n: int, computed: int) -> None:
    assert count(Interval(n, warmup=3, anchor="first"), 50) == computed


def test_fora_lists_the_published_steps() -> None:
    steps = Interval(3, anchor="last").steps(50)
    assert steps is not None
    assert [49 - step for step in steps][:3] == [49, 48, 45]
    assert [49 - step for step in steps][-2:] == [3, 0]


@unhurried
@given(lengths, st.integers(1, 15), st.integers(1, 6))
def test_interval_from_the_first_step_is_the_published_counter(num_steps: int, n: int, warmup: int) -> None:
    assert Interval(n, warmup, "first").steps(num_steps) == tuple(taylorseer_steps(num_steps, n, warmup))


@unhurried
@given(lengths, st.integers(1, 15))
def test_interval_from_the_last_step_is_the_published_rule(num_steps: int, n: int) -> None:
    assert Interval(n, 1, "last").steps(num_steps) == tuple(fora_steps(num_steps, n))


@unhurried
@given(lengths, intervals)
def test_every_interval_is_ascending_begins_with_0_and_agrees_with_is_computed(
    num_steps: int, schedule: Interval
) -> None:
    steps = schedule.steps(num_steps)
    assert steps is not None
    assert steps[0] == 0
    assert list(steps) == sorted(set(steps))
    assert [step for step in range(num_steps) if schedule.is_computed(step, num_steps)] == list(steps)
    assert all(after - before <= schedule.n for before, after in pairwise(steps))


@unhurried
@given(lengths, st.integers(1, 6), st.sampled_from(["first", "last"]))
def test_interval_1_computes_every_step(num_steps: int, warmup: int, anchor: str) -> None:
    schedule = Interval(1, warmup, "first" if anchor == "first" else "last")
    assert schedule.steps(num_steps) == tuple(range(num_steps))


@unhurried
@given(lengths, st.integers(1, 15), st.integers(1, 6))
def test_interval_from_the_first_step_does_not_need_the_number_of_steps(num_steps: int, n: int, warmup: int) -> None:
    schedule = Interval(n, warmup)
    assert not schedule.needs_num_steps
    assert schedule.steps(None) is None
    without = tuple(step for step in range(num_steps) if schedule.is_computed(step, None))
    assert without == schedule.steps(num_steps)


@unhurried
@given(tables)
def test_table_computes_exactly_what_it_lists(table: Table) -> None:
    assert table.steps(120) == table.steps(None) == table.computed
    assert tuple(step for step in range(120) if table.is_computed(step, 120)) == table.computed
    assert tuple(step for step in range(120) if table.is_computed(step, None)) == table.computed
    assert not table.needs_num_steps


def test_interval_from_the_last_step_refuses_to_guess_the_number_of_steps() -> None:
    schedule = Interval(3, anchor="last")
    assert schedule.needs_num_steps
    assert schedule.steps(None) is None
    with pytest.raises(MethodError, match="Pass num_steps= to optimize"):
        schedule.is_computed(0, None)


@pytest.mark.parametrize("schedule", [Interval(3), Interval(3, anchor="last"), Table((0, 2))])
@pytest.mark.parametrize("step", [-1, 10])
def test_step_outside_the_trajectory_is_refused(schedule: FixedSchedule, step: int) -> None:
    with pytest.raises(TrajectoryError, match=f"Step {step} is not in a trajectory of 10 steps"):
        schedule.is_computed(step, 10)


@pytest.mark.parametrize("schedule", [Interval(3), Table((0, 2))])
@pytest.mark.parametrize("num_steps", [0, -5, True, 50.0, "50"])
def test_wrong_number_of_steps_is_refused(schedule: Schedule, num_steps: int) -> None:
    with pytest.raises(MethodError, match="needs num_steps to be"):
        schedule.steps(num_steps)


@pytest.mark.parametrize("value", [0, -3, True, 3.0, "3", None])
@pytest.mark.parametrize("field", ["n", "warmup"])
def test_wrong_interval_or_warmup_is_refused(field: str, value: object) -> None:
    fields: dict[str, Any] = {"n": 5, field: value}
    with pytest.raises(MethodError, match=f"Interval needs {field} to be") as caught:
        Interval(**fields)
    assert f"where: Interval({field}={value!r})" in str(caught.value)


def test_wrong_anchor_is_refused_with_a_suggestion() -> None:
    with pytest.raises(MethodError, match="Did you mean 'last'"):
        Interval(5, anchor="lst")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("steps", "fault"),
    [
        ((), "Table has no steps"),
        ((0, 5, 3), "Table is not in ascending order: 3 follows 5"),
        ((0, 3, 3), "Table has a step twice: 3 follows 3"),
        ((1, 3), "Table lacks step 0"),
        ((0, -1), "needs steps[1] to be at least 0"),
        ((0, True), "needs steps[1] to be a whole number"),
        ((0, 2.0), "needs steps[1] to be a whole number"),
        ("0, 1", "Table needs a list or tuple of steps"),
        (5, "Table needs a list or tuple of steps"),
        ({0, 1}, "Table needs a list or tuple of steps"),
    ],
)
def test_wrong_table_is_refused_with_its_fault_and_an_example(steps: tuple[int, ...], fault: str) -> None:
    with pytest.raises(MethodError, match=re.escape(fault)) as caught:
        Table(steps)
    assert "Table((0, 1, 5, 9))" in str(caught.value)


def test_table_with_steps_after_the_end_is_refused_by_name() -> None:
    table = Table((0, 4, 10, 12))
    with pytest.raises(MethodError, match=re.escape("does not have: [10, 12]")):
        table.steps(10)
    with pytest.raises(MethodError, match=re.escape("does not have: [10, 12]")):
        table.is_computed(3, 10)


def test_table_made_from_a_list_is_the_table_made_from_a_tuple() -> None:
    assert Table([0, 3]) == Table(steps=(0, 3))
    assert hash(Table([0, 3])) == hash(Table((0, 3)))
    assert repr(Table([0, 3])) == "Table((0, 3))"
