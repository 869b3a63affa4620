"""What depends on timestep and conditioning alone: computed once where that is allowed, and never stale."""

from __future__ import annotations

from collections import Counter
from contextlib import nullcontext
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

import fouriercache as fc
from fouriercache.runtime.conditioning import Hoisted
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

REUSE_STEP = 5  # the last computed one is 4, the next 6
aten = torch.ops.aten


class CountCalls(TorchDispatchMode):
    """Counts ATen calls while it is open."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: Counter[Any] = Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.calls[func] += 1
        return func(*args, **(kwargs or {}))


def count_calls(session, **inputs) -> Counter[Any]:
    count = CountCalls()
    with count:
        denoise(session, **inputs)
    return count.calls


@pytest.fixture(params=["as it comes", "prepared"])
def session(request, fast):
    session = fast.new_session()
    if request.param == "prepared":
        session.prepare(TIMESTEPS)
    return session


def test_prepared_steps_give_what_others_give(fast):
    session = fast.new_session()
    session.prepare(torch.tensor(TIMESTEPS))
    wanted = denoise(BruteForce(fast.model))
    for _ in range(2):
        assert distance(denoise(session), wanted) < ROUNDING


def test_prepared_conditioning_runs_once_a_trajectory_for_each_step_mode(fast):
    """The sine of the timestep is drawn in that part alone, once in a run of it; the label looked up once a mode."""
    session = fast.new_session()
    denoise(session)
    unprepared = count_calls(session)
    assert unprepared[aten.sin.default] == len(TIMESTEPS)
    session.prepare(TIMESTEPS)
    denoise(session)  # the first of all runs is checked against a step alone
    for seed in range(2):
        prepared = count_calls(session, classes=labels(first=seed))
        assert prepared[aten.sin.default] == 2
        assert prepared[aten.embedding.default] <= unprepared[aten.embedding.default]


def test_a_prepared_reuse_step_runs_no_part_of_it(fast):
    session = fast.new_session()
    session.prepare(TIMESTEPS)
    counts: list[Counter[Any]] = []

    def counted(**inputs):
        count = CountCalls()
        with count:
            out = session(**inputs)
        counts.append(count.calls)
        return out

    denoise(counted)
    later = [counts[step] for step in range(len(TIMESTEPS)) if step not in (0, 2)]  # 0 and 2 are first of their mode
    assert not any(calls[aten.sin.default] or calls[aten.embedding.default] for calls in later)
    reuse = [counts[step] for step in range(len(TIMESTEPS)) if step not in COMPUTED]
    linears = (aten.addmm.default, aten.addmm.out, aten.mm.default, aten.linear.default, aten.baddbmm.default)
    assert sum(reuse[1][linear] for linear in linears) == 2  # the patches and the output layer


@pytest.mark.parametrize("step", [1, 3, 4, REUSE_STEP])
def test_labels_that_change_in_mid_trajectory_take_effect_at_once_when_prepared(fast, step):
    session = fast.new_session()
    session.prepare(TIMESTEPS)

    def run(model):
        calls = iter(range(len(TIMESTEPS)))

        def call(hidden_states, timestep, class_labels):
            classes = labels(first=5) if next(calls) >= step else class_labels
            return model(hidden_states=hidden_states, timestep=timestep, class_labels=classes)

        return denoise(call)

    unchanged = denoise(session)
    have = run(session)
    assert distance(have, run(BruteForce(fast.model))) < ROUNDING
    assert distance(have, unchanged) > 100 * ROUNDING


@pytest.mark.parametrize("step", [1, 3, 4, REUSE_STEP])
def test_a_run_broken_off_and_another_that_begins_further_along_is_refused(fast, step):
    """Nothing but the labels shows that it is another run; with labels that are equal nothing does."""
    session = fast.new_session()
    denoise(session, timesteps=TIMESTEPS[:step], classes=labels(first=7))
    with pytest.raises(fc.TrajectoryError, match=r"(?s)class_labels changed in mid-trajectory.*reset\(\).*prepare"):
        denoise(session, timesteps=TIMESTEPS[step:])
    session.reset()
    assert is_same(denoise(session), denoise(fast.new_session()))


def test_a_warm_up_call_with_other_labels_at_an_earlier_timestep_is_refused(fast):
    session = fast.new_session()
    denoise(session, timesteps=(999,), classes=labels(first=4))
    with pytest.raises(fc.TrajectoryError, match=r"(?s)class_labels changed in mid-trajectory.*reset\(\)"):
        denoise(session)


@pytest.mark.parametrize("mode", [nullcontext, torch.inference_mode])
def test_labels_that_change_in_place_and_back_take_effect_at_once(fast, mode):
    session = fast.new_session()
    session.prepare(TIMESTEPS)

    def run(model):
        with mode():
            classes = labels()

            def change(step):
                classes.copy_(labels(first=5) if step in (1, 3, REUSE_STEP) else labels())

            return denoise(model, classes=classes, before_step=change)

    assert distance(run(session), run(BruteForce(fast.model))) < ROUNDING


def test_buffers_that_the_caller_writes_again_for_each_step_are_read_anew(session, fast):
    """CUDA-graph style: the same tensors in every call, new values in them; outputs are overwritten, too."""

    def run(model):
        x, timestep, classes = noise(), torch.full((2,), 0), labels()
        outputs = []
        with torch.no_grad():
            for value in TIMESTEPS:
                timestep.fill_(value)
                out = model(hidden_states=x, timestep=timestep, class_labels=classes).sample
                outputs.append(out.clone())
                x.sub_(out, alpha=1 / 8)
                out.fill_(torch.nan)
        return outputs

    wanted = run(BruteForce(fast.model))
    for _ in range(2):
        assert distance(run(session), wanted) < ROUNDING


@pytest.mark.parametrize("site", ["block", "stack"])
def test_outputs_that_the_caller_overwrites_are_not_what_is_kept(site):
    fast = fc.optimize(tiny_dit(), METHOD.with_(site=site), num_steps=len(TIMESTEPS))
    wanted = denoise(fast)
    session = fast.new_session()

    def overwritten(**inputs):
        out = session(**inputs)
        kept = type(out)(sample=out.sample.clone())
        out.sample.fill_(torch.nan)
        return kept

    assert is_same(denoise(overwritten), wanted)


def test_rows_with_timesteps_of_their_own_are_right(fast):
    """A batch of two requests, each at its own timestep; the labels' rows are hoisted with them."""

    def run(model):
        x, outputs = noise(), []
        with torch.no_grad():
            for value in TIMESTEPS:
                timestep = torch.tensor([value, value - 50])
                outputs.append(model(hidden_states=x, timestep=timestep, class_labels=labels()).sample)
                x = x - outputs[-1] / 8
        return outputs

    assert distance(run(fast.new_session()), run(BruteForce(fast.model))) < ROUNDING


@pytest.mark.parametrize("batch", [1, 3])
def test_another_batch_after_prepare_is_right(fast, batch):
    session = fast.new_session()
    session.prepare(TIMESTEPS)
    denoise(session)
    x, classes = noise(batch), labels(batch)
    have = denoise(session, x=x, classes=classes)
    assert distance(have, denoise(BruteForce(fast.model), x=x, classes=classes)) < ROUNDING


def test_prepare_in_mid_trajectory_begins_a_new_one_with_other_timesteps(fast):
    session = fast.new_session()
    denoise(session, timesteps=TIMESTEPS[:3])
    other = tuple(value - 33 for value in TIMESTEPS)
    session.prepare(other)
    assert session.cache_bytes == 0
    have = denoise(session, timesteps=other)
    assert distance(have, denoise(BruteForce(fast.model), timesteps=other)) < ROUNDING


def test_one_timestep_for_all_rows_is_right(fast):
    def run(model):
        def call(hidden_states, timestep, class_labels):
            return model(hidden_states=hidden_states, timestep=timestep[:1], class_labels=class_labels)

        return denoise(call)

    session = fast.new_session()
    assert distance(run(session), denoise(BruteForce(fast.model))) < ROUNDING
    session.prepare(TIMESTEPS)
    assert distance(run(session), denoise(BruteForce(fast.model))) < ROUNDING


def test_hoisted_values_of_a_failed_call_are_right_later(session, fast):
    """A call that is refused has filled what is kept of the conditioning; it is right all the same."""

    def poison(step):
        if step == REUSE_STEP:
            # Other labels are refused as such, unless the timesteps are prepared: then NaN is what is wrong.
            fault = "NaN" if session._prepared else "class_labels changed in mid-trajectory"
            with pytest.raises(fc.TrajectoryError, match=fault):
                session(**step_inputs(noise() * torch.nan, TIMESTEPS[step], labels(first=8)))

    assert distance(denoise(session, before_step=poison), denoise(BruteForce(fast.model))) < ROUNDING


def test_what_steps_computed_alone_is_kept_for_the_last_two_timesteps():
    """Solvers of second order ask for a timestep twice."""
    kept, values = Hoisted(), [{"gate": torch.full((2,), float(step))} for step in range(3)]
    for step, value in enumerate(values):
        assert kept.keep((float(step),), value) is value
    assert [kept.find((float(step),)) for step in range(3)] == [None, *values[1:]]
    assert len(kept.tensors()) == 2
