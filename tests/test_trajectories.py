"""Trajectories through the optimised module: right, or a typed error that says what, where and what to do."""

from __future__ import annotations

import gc
from typing import Any

import pytest
import torch

import fouriercache as fc
from tests.tiny import (
    COMPUTED,
    METHOD,
    ROUNDING,
    TIMESTEPS,
    BruteForce,
    denoise,
    distance,
    is_same,
    labels,
    noise,
    step_inputs,
    tiny_dit,
)


def first_steps(model, count: int, **inputs) -> None:
    denoise(model, timesteps=TIMESTEPS[:count], **inputs)


@pytest.fixture(scope="module")
def expected(fast):
    """A trajectory of a fresh session, bit for bit what every other must give."""
    return denoise(fast.new_session())


def test_gives_what_caching_by_brute_force_gives(fast, expected):
    assert distance(expected, denoise(BruteForce(fast.model))) < ROUNDING
    assert distance(expected, denoise(fast.model)) > 100 * ROUNDING


def test_computed_steps_before_any_reuse_are_the_models_own_bit_for_bit(fast, expected):
    before_reuse = denoise(fast.model)[:2]
    assert COMPUTED[:2] == (0, 1)
    assert is_same(expected[:2], before_reuse)


def test_interval_1_is_the_model_bit_for_bit_over_several_trajectories():
    model = tiny_dit()
    fast = fc.optimize(model, fc.FORA(1), num_steps=len(TIMESTEPS))
    for seed in range(3):
        assert is_same(denoise(fast, x=noise(seed=seed)), denoise(model, x=noise(seed=seed)))


def test_equal_trajectories_are_equal_bit_for_bit(fast, expected):
    session = fast.new_session()
    for _ in range(3):
        assert is_same(denoise(session), expected)


@pytest.mark.parametrize("steps", range(1, len(TIMESTEPS)))
def test_a_trajectory_broken_off_leaves_nothing_to_the_next(fast, expected, steps):
    session = fast.new_session()
    first_steps(session, steps, x=noise(seed=7), classes=labels(first=5))
    assert is_same(denoise(session), expected)


@pytest.mark.parametrize("steps", [1, 2, 4])
def test_a_run_broken_off_and_one_that_begins_further_along_are_not_taken_for_one(fast, expected, steps):
    session = fast.new_session()
    first_steps(session, steps)
    late = TIMESTEPS[steps + 2 :]
    with pytest.raises(fc.TrajectoryError, match=r"(?s)sample is another one.*where: .*reset\(\)"):
        denoise(session, x=noise(seed=7), timesteps=late)
    session.reset()
    alone = denoise(fast.new_session(), x=noise(seed=7), timesteps=late)
    assert is_same(denoise(session, x=noise(seed=7), timesteps=late), alone)


def test_a_sampler_that_leaves_steps_out_is_right(fast):
    """The schedule of timesteps jumps; the sample shows that the run goes on."""
    jumping = [*TIMESTEPS[:3], *TIMESTEPS[5:]]
    session = fast.new_session()
    denoise(session, timesteps=jumping)
    assert session.position.step == len(jumping) - 1


def test_a_reset_in_mid_trajectory_begins_a_new_one(fast, expected):
    session = fast.new_session()
    first_steps(session, 4, x=noise(seed=7))
    session.reset()
    assert session.cache_bytes == 0
    assert is_same(denoise(session), expected)


@pytest.mark.parametrize("seed", [0, 7], ids=["with the first call's inputs", "with other latents"])
def test_a_warm_up_call_does_not_size_the_schedule(fast, expected, seed):
    session = fast.new_session()
    first_steps(session, 1, x=noise(seed=seed))
    assert is_same(denoise(session), expected)


def test_a_warm_up_call_that_could_be_a_first_step_does_not_pass_unseen(fast):
    """A timestep above all others is a step of its own as far as anyone can tell; the count then is wrong by one."""
    session = fast.new_session()
    denoise(session, timesteps=(999,))
    with pytest.raises(fc.TrajectoryError, match=r"(?s)goes on after its 8 steps.*reset\(\)"):
        denoise(session)
    session.reset()
    denoise(session, timesteps=(500,))
    with pytest.raises(fc.TrajectoryError, match=r"(?s)goes up after the first step.*if a new one begins, reset\(\)"):
        denoise(session)


def test_a_call_too_few_is_seen_when_it_comes_again(fast):
    session = fast.new_session()
    for _ in range(2):
        first_steps(session, 5)
    with pytest.raises(fc.TrajectoryError, match=r"(?s)fell short.*5 steps of num_steps=8.*num_steps=5"):
        first_steps(session, 1)


def test_a_call_too_many_is_refused(fast):
    session = fast.new_session()
    with pytest.raises(fc.TrajectoryError, match=r"(?s)goes on after its 8 steps.*timestep 100.*num_steps="):
        denoise(session, timesteps=(*TIMESTEPS, 100))


def test_a_prepared_trajectory_refuses_calls_that_do_not_fit(fast):
    session = fast.new_session()
    session.prepare(TIMESTEPS)
    with pytest.raises(fc.TrajectoryError, match=r"(?s)timestep 800.0 where 900.0 was prepared.*step 0"):
        denoise(session, timesteps=TIMESTEPS[1:])
    with pytest.raises(fc.TrajectoryError, match=r"(?s)timestep 700.0 where 800.0 was prepared.*step 1"):
        denoise(session, timesteps=(900, 700))
    with pytest.raises(fc.TrajectoryError, match=r"(?s)there are 7 where num_steps=8 was declared"):
        session.prepare(TIMESTEPS[:7])
    with pytest.raises(fc.TrajectoryError, match="list is empty"):
        session.prepare([])


def test_the_same_timestep_twice_in_mid_trajectory_is_refused(fast):
    session = fast.new_session()
    first_steps(session, 3)
    x = noise(seed=3)
    session(**step_inputs(x, 600, labels()))
    with pytest.raises(fc.TrajectoryError, match=r"(?s)same pass came twice.*step 3, timestep 600.0.*cache_context"):
        session(**step_inputs(x, 600, labels()))
    with pytest.raises(fc.TrajectoryError, match=r"(?s)two different samples.*step 3.*passes_per_step=1"):
        session(**step_inputs(noise(seed=4), 600, labels()))


def test_timesteps_that_go_up_are_refused_until_declared(fast):
    session = fast.new_session()
    with pytest.raises(fc.TrajectoryError, match=r'(?s)goes up.*timestep 300.0 after step 0.*direction="up"'):
        denoise(session, timesteps=TIMESTEPS[::-1])
    session.reset()
    first_steps(session, 3)
    with pytest.raises(fc.TrajectoryError, match=r"(?s)goes up in mid-trajectory.*reset\(\)"):
        session(**step_inputs(noise(), 750, labels()))


def test_timesteps_that_go_up_are_right_when_declared():
    model = tiny_dit()
    fast = fc.optimize(model, METHOD, num_steps=len(TIMESTEPS), direction="up")
    upwards = TIMESTEPS[::-1]
    assert distance(denoise(fast, timesteps=upwards), denoise(BruteForce(model), timesteps=upwards)) < ROUNDING


@pytest.mark.parametrize(
    ("changed", "shown"),
    [
        ({"x": noise(3), "classes": labels(3)}, r"\(2, 3, 8, 8\).*\(3, 3, 8, 8\)"),
        ({"x": noise(1), "classes": labels(1)}, r"\(2, 3, 8, 8\).*\(1, 3, 8, 8\)"),
        ({"x": noise(size=16)}, r"\(2, 3, 8, 8\).*\(2, 3, 16, 16\)"),
        ({"classes": labels().int()}, r"class_labels.*torch.int64.*torch.int32"),
    ],
    ids=["larger batch", "smaller batch", "resolution", "dtype"],
)
@pytest.mark.parametrize("step", [1, 2], ids=["computed step", "reuse step"])
def test_inputs_that_change_their_form_in_mid_trajectory_are_refused(fast, expected, changed, shown, step):
    session = fast.new_session()
    first_steps(session, step)
    with pytest.raises(fc.TrajectoryError, match=rf"(?s)in mid-trajectory.*{shown}.*step {step}.*reset\(\)"):
        denoise(session, timesteps=TIMESTEPS[step : step + 1], **changed)
    session.reset()
    assert is_same(denoise(session), expected)


@pytest.mark.parametrize("batch", [1, 3, 5])
def test_another_batch_in_the_next_trajectory_is_right(fast, expected, batch):
    session = fast.new_session()
    assert is_same(denoise(session), expected)
    other: dict[str, Any] = {"x": noise(batch, seed=batch), "classes": labels(batch)}
    assert distance(denoise(session, **other), denoise(BruteForce(fast.model), **other)) < ROUNDING
    assert is_same(denoise(session), expected)


def test_another_resolution_in_the_next_trajectory_is_right(fast, expected):
    session = fast.new_session()
    assert is_same(denoise(session), expected)
    large = noise(size=16)
    assert distance(denoise(session, x=large), denoise(BruteForce(fast.model), x=large)) < ROUNDING
    assert is_same(denoise(session), expected)


def test_positional_and_keyword_calls_are_one(fast, expected):
    session = fast.new_session()

    def positional(hidden_states, timestep, class_labels):
        return session(hidden_states, timestep, class_labels)

    assert is_same(denoise(positional), expected)
    mixed = fast.new_session()
    calls = iter([positional, session] * 4)
    assert is_same(denoise(lambda **inputs: next(calls)(**inputs)), expected)
    assert is_same(denoise(mixed), expected)


def test_output_types_are_the_models_own(fast, expected):
    session, model = fast.new_session(), fast.model
    inputs = step_inputs(noise(), 900, labels())
    assert type(session(**inputs)) is type(model(**inputs))
    session.reset()
    tuples = denoise(lambda **inputs: _Sample(session(**inputs, return_dict=False)))
    assert is_same(tuples, expected)


def test_output_type_may_change_in_mid_trajectory(fast, expected):
    """A constant argument has its own graph; features kept by one serve the other."""
    session = fast.new_session()
    turns = iter([True, False] * 4)

    def call(**inputs):
        return session(**inputs) if next(turns) else _Sample(session(**inputs, return_dict=False))

    assert is_same(denoise(call), expected)


class _Sample:
    def __init__(self, outputs: object) -> None:
        assert type(outputs) is tuple
        (self.sample,) = outputs


def test_runs_in_inference_mode(fast, expected):
    session = fast.new_session()
    with torch.inference_mode():
        x = noise()
        assert is_same(denoise(session, x=x, classes=labels()), expected)
    assert is_same(denoise(session), expected)


@pytest.mark.parametrize("is_prepared", [False, True])
def test_gradients_flow_through_a_step_and_stop_at_what_is_kept(fast, is_prepared):
    session, wanted = fast.new_session(), BruteForce(fast.model)
    if is_prepared:
        session.prepare(TIMESTEPS)
    for timestep in TIMESTEPS:
        found: list[Any] = []
        for model in (session, wanted):
            x = noise().requires_grad_()
            model(**step_inputs(x, timestep, labels())).sample.square().sum().backward()
            found.append(x.grad)
        assert distance(found[:1], found[1:]) < ROUNDING
        for kept in wanted.kept.values():
            kept[:] = [(step, feature.detach()) for step, feature in kept]
    states = session._trajectory.passes.values()
    held = [tensor for state in states for values in state.ring.values() for tensor in values]
    assert held
    assert not any(tensor.requires_grad for tensor in held)


def test_many_trajectories_hold_no_more_than_one(fast):
    session = fast.new_session()
    sizes, tensors = set(), []
    for seed in range(200):
        denoise(session, x=noise(seed=seed), classes=labels(first=seed))
        sizes.add(session.cache_bytes)
        if seed in (20, 199):
            gc.collect()
            tensors.append(sum(issubclass(type(kept), torch.Tensor) for kept in gc.get_objects()))
    blocks, features = 2, 2 * 16 * 16 * 4  # [batch, tokens, width] in float32
    assert sizes == {2 * blocks * METHOD.predictor.history * features}
    assert tensors[1] <= tensors[0]


@pytest.mark.parametrize("lack", [1, 0, -1])
def test_a_trajectory_is_refused_where_the_pipeline_says_that_fewer_steps_are_left(fast, expected, lack):
    session = fast.new_session()
    said = {"step_index": 5, "num_inference_steps": 5 + len(TIMESTEPS) - lack, "sigma": 0.5}
    with session.cache_context("cond", **said):
        if lack > 0:
            message = rf"(?s)num_steps={len(TIMESTEPS)} begins.*has {len(TIMESTEPS) - lack} steps left.*boundary"
            with pytest.raises(fc.TrajectoryError, match=message):
                denoise(session)
            assert session.position is None
        else:
            assert is_same(denoise(session), expected)
