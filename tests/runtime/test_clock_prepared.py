"""Trajectories whose timesteps are prepared."""

from __future__ import annotations

from typing import Any

import pytest

from tests.runtime.made_up_sampler import Sampler, heun, refuses, steps_of


def test_prepared_timesteps_may_run_in_any_direction_and_repeat() -> None:
    sampler = Sampler()
    sampler.clock.prepare([5, 9, 2, 9, 3])
    assert sampler.clock.num_steps == 5
    for _ in range(2):
        sampler.run([5, 9, 2, 9, 3], 2)
    assert sampler.stands == steps_of(5, range(2)) * 2


def test_a_prepared_trajectory_may_be_broken_off() -> None:
    sampler = Sampler()
    sampler.clock.prepare([9, 6, 3])
    for length in (1, 2, 3):
        sampler.run([9, 6, 3][:length])
    assert sampler.stands == steps_of(1) + steps_of(2) + steps_of(3)


def test_prepared_equal_neighbours_are_steps() -> None:
    sampler = Sampler(passes_per_step=1)
    sampler.clock.prepare(heun([9, 6, 3]))
    for _ in range(2):
        sampler.run(heun([9, 6, 3]))
    assert sampler.stands == steps_of(5) * 2


@pytest.mark.parametrize(
    ("before", "call", "wanted", "step"),
    [
        ([], 6.0, "9.0", 0),
        ([9], 3.0, "6.0", 1),
        ([9, 6], 7.0, "3.0", 2),
        ([9, 6, 3], 1.0, "the end", 3),
        ([9], (9.0, 6.0), "6.0", 1),
    ],
)
def test_refuses_a_call_that_was_not_prepared(before: list[float], call: Any, wanted: str, step: int) -> None:
    sampler = Sampler()
    sampler.clock.prepare([9, 6, 3])
    sampler.run(before)
    with refuses(f"where {wanted} was prepared", f"step {step} of the 3 prepared", "reset()"):
        sampler.run([call])


@pytest.mark.parametrize(
    ("prepared", "call", "advice"),
    [
        ([1000.0, 700.0], (1.0,), "prepare(scheduler.timesteps / 1000)"),
        ([1000.0, 700.0], (1.0, 1.0), "prepare(scheduler.timesteps / 1000)"),
        ([991.7, 700.0], (0.9921875,), "prepare(scheduler.timesteps / 1000)"),  # rounded to bfloat16
        ([1.0, 0.7], (1000.0,), "prepare(scheduler.timesteps), not divided"),
        ([1000.0, 700.0], (900.0,), "Prepare the timesteps that the sampler uses"),
        ([1000.0, 700.0], (1.0, 0.0), "Prepare the timesteps that the sampler uses"),
    ],
)
def test_says_that_the_model_is_called_with_a_thousandth_of_what_was_prepared(
    prepared: list[float], call: Any, advice: str
) -> None:
    sampler = Sampler()
    sampler.clock.prepare(prepared)
    with refuses("was prepared", advice):
        sampler.call(call)


def test_refuses_an_equal_timestep_that_was_prepared_once() -> None:
    sampler = Sampler(passes_per_step=1)
    sampler.clock.prepare([9, 6, 3])
    sampler.run([9, 6])
    with refuses("A call has timestep 6.0 where 3.0 was prepared", "step 2 of the 3"):
        sampler.call(6.0, sample="corrected")


def test_prepare_begins_a_new_trajectory_and_reset_forgets_it() -> None:
    sampler = Sampler()
    sampler.run([9, 6])
    sampler.clock.prepare([5, 2])
    sampler.run([5, 2])
    sampler.clock.reset()
    assert sampler.clock.num_steps is None
    sampler.run([4, 3, 1])
    assert sampler.stands == steps_of(2) * 2 + steps_of(3)


def test_a_refused_list_changes_nothing() -> None:
    sampler = Sampler(num_steps=3)
    sampler.clock.prepare([9, 6, 3])
    sampler.run([9, 6])
    with refuses("These timesteps cannot be prepared: there are 2 where num_steps=3 was declared", "num_steps=2"):
        sampler.clock.prepare([9, 6])
    sampler.run([3])
    assert sampler.stands == steps_of(3)
