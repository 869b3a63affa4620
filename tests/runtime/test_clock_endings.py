"""Two trajectories in a row that fell short alike: it is told once, and what comes next begins clean."""

from __future__ import annotations

from fouriercache.runtime.call import StepCall
from tests.runtime.made_up_sampler import Sampler, refuses, steps_of


def _call(timestep: float) -> StepCall:
    return StepCall((timestep,), None, "signature", lambda: False, lambda: False, lambda: True)


def test_after_two_ended_alike_the_next_run_begins_clean_and_a_wrong_number_is_told_again() -> None:
    sampler = Sampler(num_steps=10)
    for _ in range(3):
        sampler.run([9, 6, 3])
        sampler.run([9, 6, 3])
        for _ in range(2):  # `begin` changes nothing, so it says the same again
            with refuses("Two trajectories in a row fell short"):
                sampler.clock.begin(_call(9.0))
        with refuses("Two trajectories in a row fell short"):
            sampler.clock.ask(_call(9.0))
    sampler.run([5, 4, 3, 2])  # wherever it begins
    assert sampler.stands == steps_of(3) * 6 + steps_of(4)


def test_prepared_timesteps_outlive_the_refusal_of_two_that_ended_alike() -> None:
    sampler = Sampler()
    sampler.clock.prepare([9, 6, 3, 1])
    sampler.run([9, 6])
    sampler.run([9, 6])
    with refuses("Two trajectories in a row fell short"):
        sampler.clock.ask(_call(9.0))
    assert sampler.clock.prepared == (9.0, 6.0, 3.0, 1.0)
    sampler.run([9, 6, 3, 1])
    assert sampler.stands[-4:] == steps_of(4)
