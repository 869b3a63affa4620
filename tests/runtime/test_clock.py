"""Steps and trajectories: where the clock says that calls stand."""

from __future__ import annotations

from typing import Any

import pytest

from fouriercache.errors import MethodError, ShortTrajectoryWarning, TrajectoryError
from fouriercache.runtime.call import StepCall
from fouriercache.runtime.clock import Clock
from tests.runtime.made_up_sampler import Sampler, refuses, steps_of

# --- steps and trajectories ---


def test_every_lower_timestep_is_the_next_step() -> None:
    sampler = Sampler()
    sampler.run([9, 7, 4, 0])
    assert sampler.stands == steps_of(4)


def test_every_higher_timestep_is_the_next_step_of_an_ascending_trajectory() -> None:
    sampler = Sampler(direction="up")
    sampler.run([0, 4, 7, 9])
    sampler.run([0, 4, 7, 9])
    assert sampler.stands == steps_of(4) * 2


def test_the_first_timestep_begins_a_new_trajectory() -> None:
    sampler = Sampler()
    for _ in range(3):
        sampler.run([9, 6, 3])
    assert sampler.stands == steps_of(3) * 3


def test_a_timestep_beyond_the_first_begins_a_new_trajectory() -> None:
    sampler = Sampler()
    sampler.run([9, 6])
    sampler.run([12, 6, 3])
    assert sampler.stands == steps_of(2) + steps_of(3)


@pytest.mark.parametrize("length", [2, 3, 4, 5])
def test_a_trajectory_broken_off_anywhere_is_followed_by_a_whole_one(length: int) -> None:
    sampler = Sampler(num_steps=5)
    sampler.run([9, 8, 7, 6, 5][:length])
    sampler.run([9, 8, 7, 6, 5])
    assert sampler.stands == steps_of(length) + steps_of(5)


def test_after_all_steps_a_trajectory_may_begin_anywhere_but_further_along() -> None:
    sampler = Sampler(num_steps=3)
    sampler.run([9, 6, 3])
    sampler.run([7, 5, 1])
    sampler.run([2, 1, 0])
    assert sampler.stands == steps_of(3) * 3


def test_trajectories_of_one_step_follow_each_other() -> None:
    sampler = Sampler(num_steps=1)
    for first in (5, 5, 7):
        sampler.run([first])
    assert sampler.stands == steps_of(1) * 3
    with refuses("The trajectory goes on after its 1 steps.", "timestep 2.0 after 7.0, num_steps=1", "reset()"):
        sampler.run([2.0])


def test_refuses_a_timestep_that_goes_up_in_mid_trajectory() -> None:
    sampler = Sampler()
    sampler.run([9.0, 6.0])
    with refuses("goes up in mid-trajectory", "timestep 7.0 after step 1, timestep 6.0; the first was 9.0", "reset()"):
        sampler.run([7.0])


def test_refuses_a_timestep_that_goes_down_in_an_ascending_trajectory() -> None:
    sampler = Sampler(direction="up")
    sampler.run([0, 5])
    with refuses("goes down in mid-trajectory", "reset()"):
        sampler.run([3])


@pytest.mark.parametrize(
    ("ran", "jump", "options"),
    [
        ([900, 850, 800], 600, {}),
        ([900, 850, 800], 724, {"num_steps": 18}),
        ([900], 800, {"num_steps": 18}),
        ([0.0, 0.1], 0.5, {"direction": "up"}),
        ([900, 850, 850], 600, {"passes_per_step": 1}),
    ],
)
def test_refuses_a_run_that_begins_further_along_than_one_was_broken_off(
    ran: list[float], jump: float, options: dict[str, Any]
) -> None:
    sampler = Sampler(**options)
    sampler.run(ran)
    with refuses("timestep jumps and the sample is another", f"timestep {float(jump)} after", "reset()", "prepare("):
        sampler.call(jump, continues=False)
    sampler.call(jump)
    assert sampler.stands == steps_of(len(ran) + 1), "a sampler may jump on its own way"


def test_a_usual_stride_is_the_next_step_whatever_the_sample() -> None:
    """Samplers that add fresh noise change the sample a lot, at strides of every kind that are schedules'."""
    sampler = Sampler(num_steps=4)
    for timestep in (999, 759, 519, 279):
        sampler.call(timestep, continues=False)
    assert sampler.stands == steps_of(4)


def test_prepared_timesteps_may_jump() -> None:
    sampler = Sampler()
    sampler.clock.prepare([900, 850, 800, 100])
    for timestep in (900, 850, 800, 100):
        sampler.call(timestep, continues=False)
    assert sampler.stands == steps_of(4)


@pytest.mark.parametrize(("direction", "second", "other"), [("down", 12, "up"), ("up", 6, "down")])
def test_refuses_a_second_step_against_the_direction(direction: str, second: float, other: str) -> None:
    sampler = Sampler(direction=direction)
    sampler.run([9])
    with refuses("after the first step of a trajectory that", f'direction="{other}"', "reset()"):
        sampler.run([second])


def test_refuses_a_step_beyond_the_declared_number() -> None:
    sampler = Sampler(num_steps=3)
    sampler.run([9.0, 6.0, 3.0])
    with refuses(
        "The trajectory goes on after its 3 steps.", "timestep 1.0 after 3.0, num_steps=3", "num_steps=", "reset()"
    ):
        sampler.run([1.0])


def test_refuses_the_second_trajectory_in_a_row_of_the_same_wrong_length() -> None:
    sampler = Sampler(num_steps=10)
    sampler.run([9, 6, 3])
    sampler.run([9, 6, 3])
    with refuses("Two trajectories in a row fell short", "3 steps of num_steps=10", "num_steps=3", "told once"):
        sampler.run([9])
    sampler.clock.reset()
    sampler.run([9])
    assert sampler.stands == steps_of(3) * 2 + steps_of(1)


def test_warns_of_a_trajectory_with_fewer_steps_than_declared() -> None:
    sampler = Sampler(num_steps=10)
    sampler.run([9, 6, 3])
    with pytest.warns(ShortTrajectoryWarning, match=r"(?s)took 3 of num_steps=10 .*Pass num_steps=3 .*reset\(\)"):
        sampler.run([9])


@pytest.mark.filterwarnings("error::fouriercache.errors.ShortTrajectoryWarning")
def test_does_not_warn_of_whole_runs_first_steps_or_after_a_reset() -> None:
    sampler = Sampler(num_steps=3)
    for _ in range(2):
        sampler.run([9, 6, 3])
    for _ in range(2):
        sampler.run([9])
    sampler.run([9, 6])
    sampler.clock.reset()
    sampler.run([9, 6, 3])


def test_warns_when_the_timestep_never_changes() -> None:
    sampler = Sampler(num_steps=8)
    sampler.run([5])
    sampler.run([5])
    sampler.run([5])
    with pytest.warns(ShortTrajectoryWarning, match=r"(?s)3 trajectories in a row had one step .*timestep_name="):
        sampler.run([5])


def test_a_begun_and_broken_off_run_does_not_hide_a_wrong_number_of_steps() -> None:
    sampler = Sampler(num_steps=10)
    for _ in range(2):
        sampler.run([9])
        sampler.run([9, 6, 3])
    with refuses("Two trajectories in a row fell short", "num_steps=3"):
        sampler.run([9])


def test_allows_trajectories_broken_off_at_different_steps_or_with_a_whole_one_between() -> None:
    sampler = Sampler(num_steps=4)
    for length in (3, 2, 3, 4, 3, 4, 1, 1, 1, 2):
        sampler.run([9, 6, 3, 1][:length])
    assert sampler.stands == [stand for length in (3, 2, 3, 4, 3, 4, 1, 1, 1, 2) for stand in steps_of(length)]


def test_without_a_declared_number_trajectories_have_any_length() -> None:
    sampler = Sampler()
    for length in (2, 2, 3, 1, 2):
        sampler.run([9, 6, 3][:length])
    assert sampler.stands == [stand for length in (2, 2, 3, 1, 2) for stand in steps_of(length)]


def test_reset_forgets_the_trajectory() -> None:
    sampler = Sampler()
    sampler.run([9, 6])
    sampler.clock.reset()
    sampler.run([4, 2])
    assert sampler.stands == steps_of(2) * 2


# --- a batch with several timesteps ---


def test_the_batch_may_change_between_trajectories() -> None:
    sampler = Sampler()
    sampler.run([(9, 9), (6, 6)])
    sampler.run([(9, 9, 9), (6, 6, 6)])
    assert sampler.stands == steps_of(2) * 2


def test_a_batch_with_several_timesteps_moves_together_or_stays() -> None:
    sampler = Sampler()
    for _ in range(2):
        sampler.run([(9.0, 5.0, 0.0), (6.0, 4.0, 0.0), (6.0, 1.0, 0.0)])
    assert sampler.stands == steps_of(3) * 2


@pytest.mark.parametrize("other", [(5.0, 6.0), (4.0, 3.0, 2.0)])
def test_refuses_a_batch_whose_timesteps_part_ways(other: tuple[float, ...]) -> None:
    sampler = Sampler()
    sampler.run([(9.0, 8.0), (6.0, 5.0)])
    with refuses("move in different directions, or their number changed", f"timestep {other}", "reset()"):
        sampler.run([other])


# --- what is asked, and what is refused at once ---


def test_asks_about_sample_and_conditioning_only_where_a_timestep_stands_twice() -> None:
    def never() -> bool:
        raise AssertionError("asked")

    clock = Clock()
    for timestep, context in [(9, None), (6, None), (3, None), (9, "cond"), (9, "uncond"), (6, "cond"), (6, "uncond")]:
        clock.commit(clock.begin(StepCall((float(timestep),), context, "signature", never, never, never)))


def test_a_refused_call_changes_nothing() -> None:
    sampler = Sampler(num_steps=4)
    sampler.run([9, 6], 2)
    for wrong in (7, float("nan"), (5, 7)):
        with pytest.raises(TrajectoryError):
            sampler.run([wrong])
    sampler.run([3, 1], 2)
    assert sampler.stands == steps_of(4, range(2))


def test_refuses_to_commit_what_was_planned_before_another_call() -> None:
    clock = Clock()

    def yes() -> bool:
        return True

    one, other = (clock.begin(StepCall((9.0,), None, "signature", yes, yes, yes)) for _ in range(2))
    clock.commit(one)
    with refuses("Another call of the same session", "step 0, timestep 9.0, pass 0", "new_session()"):
        clock.commit(other)


@pytest.mark.parametrize(
    "options",
    [
        {"num_steps": 0},
        {"num_steps": 2.0},
        {"num_steps": True},
        {"passes_per_step": 0},
        {"passes_per_step": "1"},
        {"direction": "left"},
    ],
    ids=repr,
)
def test_refuses_options_that_make_no_sense(options: dict[str, Any]) -> None:
    with pytest.raises(MethodError, match=rf"(?s){next(iter(options))}.*where: optimize\("):
        Clock(**options)
