"""Passes of a step, with and without contexts, and timesteps that stand twice."""

from __future__ import annotations

import pytest

from tests.runtime.made_up_sampler import Sampler, heun, refuses, steps_of

# --- passes without a context ---


@pytest.mark.parametrize("declared", [False, True])
@pytest.mark.parametrize("passes", [1, 2, 3])
def test_passes_are_told_apart_by_their_conditioning(passes: int, declared: bool) -> None:
    sampler = Sampler(passes_per_step=passes if declared else None)
    for _ in range(2):
        sampler.run([9, 6, 3], passes)
    assert sampler.stands == steps_of(3, range(passes)) * 2


def test_the_number_of_passes_is_learnt_anew_in_every_trajectory() -> None:
    sampler = Sampler()
    sampler.run([9, 6], 2)
    sampler.run([9, 6], 1)
    sampler.run([9, 6], 3)
    assert sampler.stands == steps_of(2, range(2)) + steps_of(2) + steps_of(2, range(3))


def test_the_first_call_again_is_a_run_begun_again() -> None:
    sampler = Sampler()
    sampler.run([9, 9, 9, 6])
    assert sampler.stands == [(0, 0, True), (0, 0, True), (0, 0, True), (1, 0, False)]


def test_another_sample_at_the_first_timestep_is_a_new_run() -> None:
    sampler = Sampler()
    sampler.call(9, sample="one", conditioning="a")
    sampler.call(9, sample="one", conditioning="b")
    sampler.call(9, sample="two", conditioning="a")
    sampler.call(9, sample="two", conditioning="b")
    assert sampler.stands == steps_of(1, range(2)) * 2


def test_refuses_another_sample_at_a_later_timestep() -> None:
    sampler = Sampler()
    sampler.run([9.0, 6.0])
    with refuses("came twice, with two different samples", "step 1, timestep 6.0", "Heun", "passes_per_step=1"):
        sampler.call(6.0, sample="corrected")


def test_refuses_the_same_call_twice_in_mid_trajectory() -> None:
    sampler = Sampler()
    sampler.run([9.0, 6.0])
    with refuses("The same pass came twice", "step 1, timestep 6.0", "cache_context", "reset()"):
        sampler.run([6.0])


def test_refuses_a_pass_more_than_in_the_first_step() -> None:
    sampler = Sampler()
    sampler.run([9.0, 6.0], 2)
    with refuses(
        "more calls without a cache_context", "call 3 of step 1, timestep 6.0", "passes_per_step", "cache_context"
    ):
        sampler.call(6.0, conditioning="third")


def test_refuses_guidance_that_begins_late_without_contexts() -> None:
    sampler = Sampler()
    sampler.run([9, 6])
    with refuses("more calls without a cache_context", "call 2 of step 1", "guidance begins in mid-trajectory"):
        sampler.call(6, conditioning="unconditional")


def test_refuses_a_pass_less_than_in_the_first_step() -> None:
    sampler = Sampler()
    sampler.run([9.0, 6.0], 2)
    sampler.run([3.0])
    with refuses("ended after 1 of 2 calls", "step 2, timestep 3.0", "cache_context"):
        sampler.run([1.0])


def test_refuses_guidance_that_ends_with_the_last_step_when_it_does_so_again() -> None:
    sampler = Sampler(num_steps=3)
    for _ in range(2):
        sampler.run([9, 6], 2)
        sampler.run([3], 1)
    with refuses("fell short in the same way", "3 steps of num_steps=3, with 1 of 2 calls", "cache_context"):
        sampler.run([9], 2)


def test_a_run_broken_off_between_two_passes_is_followed_by_a_whole_one() -> None:
    sampler = Sampler(num_steps=3)
    sampler.run([9, 6], 2)
    sampler.run([3], 1)
    sampler.run([9, 6, 3], 2)
    assert sampler.stands[5:] == steps_of(3, range(2))


def test_refuses_the_second_step_after_a_first_one_begun_again_with_another_prompt() -> None:
    sampler = Sampler()
    sampler.call(9, conditioning="a cat")
    for timestep in (9, 6):
        sampler.call(timestep, conditioning="a dog")
    with refuses("ended after 1 of 2 calls", "broken off in its first step, reset()"):
        sampler.call(3, conditioning="a dog")


def test_refuses_fewer_passes_than_declared() -> None:
    sampler = Sampler(passes_per_step=2)
    sampler.run([9])
    with refuses("ended after 1 of 2 calls", "step 0", "passes with equal inputs"):
        sampler.run([6])


@pytest.mark.parametrize("declared", [1, 2])
def test_refuses_more_passes_than_declared_in_the_first_step_too(declared: int) -> None:
    sampler = Sampler(passes_per_step=declared)
    sampler.run([9], declared)
    with refuses("more calls without a cache_context", f"call {declared + 1} of step 0", "passes_per_step"):
        sampler.call(9, conditioning="one more")


# --- second-order samplers ---


def test_with_one_pass_a_step_equal_timesteps_are_steps() -> None:
    sampler = Sampler(num_steps=7, passes_per_step=1)
    for _ in range(2):
        for stage, timestep in enumerate(heun([9, 6, 3, 1])):
            sampler.call(timestep, sample=stage)
    assert sampler.stands == steps_of(7) * 2


def test_with_one_pass_a_step_each_context_may_meet_a_timestep_twice() -> None:
    sampler = Sampler(num_steps=5, passes_per_step=1)
    for _ in range(2):
        sampler.run_contexts(heun([9, 6, 3]), "cond", "uncond")
    assert sampler.stands == steps_of(5, ["cond", "uncond"]) * 2


def test_with_one_pass_a_step_the_first_timestep_again_is_a_run_begun_again() -> None:
    sampler = Sampler(passes_per_step=1)
    sampler.call(9, sample="one")
    sampler.call(9, sample="one")
    sampler.call(9, sample="two")
    sampler.call(6, sample="three")
    assert sampler.stands == [(0, 0, True), (0, 0, True), (0, 0, True), (1, 0, False)]


def test_refuses_an_equal_timestep_beyond_the_declared_number() -> None:
    sampler = Sampler(num_steps=2, passes_per_step=1)
    sampler.run([9, 6])
    with refuses("The trajectory goes on after its 2 steps.", "num_steps="):
        sampler.run([6])


# --- passes with a context ---


def test_contexts_name_the_passes() -> None:
    sampler = Sampler(num_steps=3)
    for _ in range(3):
        sampler.run_contexts([9, 6, 3], "cond", "uncond", "image")
    assert sampler.stands == steps_of(3, ["cond", "uncond", "image"]) * 3


def test_contexts_may_come_in_another_order_in_every_step() -> None:
    sampler = Sampler()
    sampler.run_contexts([9], "cond", "uncond")
    sampler.run_contexts([6], "uncond", "cond")
    assert sampler.stands[2:] == [(1, "uncond", False), (1, "cond", False)]


def test_a_context_again_at_the_first_timestep_is_a_run_begun_again() -> None:
    sampler = Sampler()
    sampler.run_contexts([9], "cond")
    sampler.run_contexts([9, 6], "cond", "uncond")
    sampler.clock.reset()
    sampler.run_contexts([9], "cond", "uncond")
    sampler.run_contexts([9, 6], "cond", "uncond")
    whole = steps_of(2, ["cond", "uncond"])
    assert sampler.stands == [(0, "cond", True), *whole, *whole[:2], *whole]


def test_a_context_may_end_early() -> None:
    sampler = Sampler(num_steps=4)
    for _ in range(2):
        sampler.run_contexts([9, 6], "cond", "uncond")
        sampler.run_contexts([3, 1], "cond")
    once = [*steps_of(2, ["cond", "uncond"]), (2, "cond", False), (3, "cond", False)]
    assert sampler.stands == once * 2


def test_a_context_may_begin_late() -> None:
    sampler = Sampler(num_steps=4)
    for _ in range(2):
        sampler.run_contexts([9, 6], "cond")
        sampler.run_contexts([3], "uncond", "cond")
        sampler.run_contexts([1], "cond", "uncond")
    once = [
        (0, "cond", True),
        (1, "cond", False),
        (2, "uncond", False),
        (2, "cond", False),
        (3, "cond", False),
        (3, "uncond", False),
    ]
    assert sampler.stands == once * 2


def test_refuses_a_context_that_comes_back() -> None:
    sampler = Sampler()
    sampler.run_contexts([9.0], "cond", "uncond")
    sampler.run_contexts([6.0], "cond")
    with refuses("cache_context 'uncond' comes back", "step 2, timestep 3.0", "not pause"):
        sampler.run_contexts([3.0], "cond", "uncond")


def test_refuses_a_context_twice_at_a_later_timestep() -> None:
    sampler = Sampler()
    sampler.run_contexts([9.0, 6.0], "cond", "uncond")
    with refuses("came twice, with two different samples", "cache_context 'cond'", "Heun"):
        sampler.call(6.0, sample="corrected", context="cond")
    with refuses("The same pass came twice", "cache_context 'cond'", "share a context"):
        sampler.call(6.0, context="cond", conditioning="other")


def test_calls_with_and_without_a_context_are_passes_of_one_step() -> None:
    sampler = Sampler()
    for _ in range(2):
        for timestep in (9, 6, 3):
            sampler.call(timestep, context="image")
            sampler.run([timestep], 2)
    assert sampler.stands == steps_of(3, ["image", 0, 1]) * 2


def test_refuses_a_call_without_a_context_that_the_first_step_did_not_have() -> None:
    sampler = Sampler(passes_per_step=2)
    sampler.run_contexts([9, 6], "cond")
    with refuses("more calls without a cache_context than its trajectory has passes: 0.", "call 1 of step 1"):
        sampler.run([6])
