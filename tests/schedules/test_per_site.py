from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import fouriercache as fc
from fouriercache.schedules import Place, SiteSchedule
from tests.test_site_schedules import ByKind
from tests.tiny import ROUNDING, TIMESTEPS, denoise, distance, tiny_dit

PLACES = [Place(0, "mlp")] * 3


@given(st.lists(st.integers(1, 9), min_size=3, max_size=3), st.integers(1, 30))
def test_each_site_is_computed_at_the_multiples_of_its_interval(intervals: list[int], num_steps: int):
    schedule = fc.PerSite(tuple(intervals))
    assert isinstance(schedule, SiteSchedule)
    whole = schedule.steps(num_steps) or ()
    assert whole[0] == 0
    computed = 0
    for step in range(num_steps):
        sites = schedule.refreshed(step, num_steps, PLACES)
        assert sites == tuple(site for site, interval in enumerate(intervals) if step % interval == 0)
        assert (step in whole) == (len(sites) == 3) == schedule.is_computed(step, num_steps)
        computed += len(sites)
    assert schedule.share(num_steps) == pytest.approx(computed / (3 * num_steps))
    assert schedule.steps(None) is None


def test_sites_run_at_their_own_intervals():
    model = tiny_dit()
    fast = fc.optimize(model, fc.FORA(schedule=fc.PerSite((4, 2, 4, 2))), num_steps=len(TIMESTEPS))
    assert distance(denoise(fast), denoise(ByKind(model, 4, 2))) < ROUNDING


def test_refuses_a_model_with_other_sites():
    with pytest.raises(fc.MethodError, match="3 intervals, and the model 4 sites"):
        denoise(fc.optimize(tiny_dit(), fc.FORA(schedule=fc.PerSite((4, 2, 4))), num_steps=len(TIMESTEPS)))


@pytest.mark.parametrize(
    ("intervals", "words"), [((), "a tuple of intervals"), ([2, 3], "a tuple of intervals"), ((2, 0), "at least 1"),
                             ((2, 1.5), "whole number"), ((True,), "whole number")]
)  # fmt: skip
def test_refuses_intervals_that_are_none(intervals: Any, words: str):
    with pytest.raises(fc.MethodError, match=words):
        fc.PerSite(intervals)


def test_refuses_a_step_outside_the_trajectory():
    with pytest.raises(fc.TrajectoryError, match="not in a trajectory"):
        fc.PerSite((2, 3)).is_computed(9, 9)
