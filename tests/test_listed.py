"""A sampler's list of timesteps: cached steps are made ready with it as if it had been prepared, computed ones are not.

The counts are of `sin`, which the timestep's embedding takes once for each run of what depends on the timestep.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

import fouriercache as fc
from fouriercache.runtime import session as session_module
from fouriercache.runtime.backend import backend_from_name
from tests.test_conditioning import CountCalls
from tests.test_hoisted_batches import Block
from tests.tiny import METHOD, ROUNDING, TIMESTEPS, denoise, distance, is_same, labels, noise, tiny_dit

STEPS = len(TIMESTEPS)
COMPUTED = METHOD.schedule.steps(STEPS) or ()
CACHED = STEPS - len(COMPUTED)


def run(
    session: Any,
    timesteps: Sequence[Tensor] | Tensor,
    *,
    classes: Callable[[int], Tensor] = lambda _: labels(),
    before_step: Callable[[int], None] = lambda _: None,
) -> list[Tensor]:
    """A loop as pipelines have it: each step is given a view of the scheduler's timesteps."""
    x, outputs = noise(), []
    with torch.no_grad():
        for step, timestep in enumerate(timesteps):
            before_step(step)
            outputs.append(session(hidden_states=x, timestep=timestep.expand(2), class_labels=classes(step)).sample)
            x = x - outputs[-1] / 8
    return outputs


def timed_runs(call: Callable[[], object]) -> int:
    with CountCalls() as count:
        call()
    return int(count.calls[torch.ops.aten.sin.default])


class CountRows(TorchDispatchMode):
    """Counts the timesteps, one for each sample, of which an embedding is taken."""

    rows = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten.sin.default:
            self.rows += args[0].shape[0]
        return func(*args, **(kwargs or {}))


@pytest.fixture
def fast():
    optimized = fc.optimize(tiny_dit(), METHOD, num_steps=STEPS)
    session = optimized.new_session()
    session.prepare(TIMESTEPS)
    denoise(session)  # the first batches of all are compared with a step alone
    return optimized


@pytest.mark.parametrize("dtype", [torch.int64, torch.float32, torch.float64])
def test_cached_steps_of_a_list_are_made_ready_in_one_batch_and_computed_ones_are_the_models_own(fast, dtype):
    session, steps = fast.new_session(), torch.tensor(TIMESTEPS, dtype=dtype)
    if steps.is_floating_point():
        steps -= 1 / 3  # no number of a shorter dtype
    want = run(fast.new_session(), [step.clone() for step in steps])
    found = run(session, steps)
    assert timed_runs(lambda: run(session, steps)) == len(COMPUTED) + 1
    assert distance(found, want) < ROUNDING
    assert is_same(found[:2], want[:2])  # both computed, and nothing came before
    assert is_same(run(session, steps), found)
    assert is_same(run(fast.new_session(), steps), found)
    every = fc.optimize(tiny_dit(), fc.Method("test", "branch", fc.Table(range(STEPS)), fc.Reuse()), num_steps=STEPS)
    assert is_same(run(every, steps), run(tiny_dit(), steps))


@pytest.mark.parametrize(
    "listed",
    [
        lambda steps: [step.clone() for step in steps],  # no views
        lambda steps: [step * 1 for step in steps],
        lambda steps: torch.cat([steps, torch.tensor([100])])[:STEPS],  # the list goes on behind the trajectory
        lambda steps: steps.repeat_interleave(2)[::2],  # and this has more than it
    ],
)
def test_a_list_that_does_not_fit_leaves_each_step_to_itself(fast, listed):
    steps = listed(torch.tensor(TIMESTEPS))
    found: list[Tensor] = []
    assert timed_runs(lambda: found.extend(run(fast.new_session(), steps))) == STEPS
    assert is_same(found, denoise(fast.new_session()))


def test_a_run_that_begins_further_along_in_the_list_is_made_ready_too(fast):
    long = torch.tensor((1000, 950, *TIMESTEPS))  # image to image: the scheduler's list is longer than the run
    assert timed_runs(lambda: run(fast.new_session(), long[2:])) == len(COMPUTED) + 1


def test_without_a_number_of_steps_nothing_is_known_of_those_to_come():
    fast = fc.optimize(tiny_dit(), METHOD)
    steps = torch.tensor(TIMESTEPS)
    assert is_same(run(fast, steps), denoise(fast))
    assert timed_runs(lambda: run(fast, steps)) == STEPS


def test_a_few_steps_are_made_ready_at_once(fast, monkeypatch):
    steps = torch.tensor(TIMESTEPS)
    want = run(fast.new_session(), steps)
    monkeypatch.setattr(session_module, "MOST_LISTED", 2)
    session, held = fast.new_session(), []
    # steps 2 and 3, 5, and 7: the runs of cached steps between computed ones
    assert timed_runs(lambda: run(session, steps)) > len(COMPUTED) + 1
    found = run(session, steps, before_step=lambda _: held.append(session.held_bytes - session.cache_bytes))
    assert distance(found, want) < ROUNDING
    assert held[4] == held[6]  # what steps gone by have used is dropped


def test_a_list_that_is_written_into_on_the_way_serves_what_it_says_then(fast):
    steps, moved = torch.tensor(TIMESTEPS), (*TIMESTEPS[:3], 580, *TIMESTEPS[4:])

    def move(step):
        steps[3] = 580 if step == 3 else TIMESTEPS[3]

    assert distance(run(fast.new_session(), steps, before_step=move), denoise(fast, timesteps=moved)) < ROUNDING


class Guided(nn.Module):
    """Two residual blocks, gated by the timestep and by how strongly the model is guided."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.blocks = nn.ModuleList(Block() for _ in range(2))
        self.eval()

    def forward(self, hidden_states, timestep, guidance):
        x = hidden_states.flatten(2).transpose(1, 2)
        for block in self.blocks:
            x = block(x, torch.sin(timestep.float() / 300) * guidance)
        return x.transpose(1, 2).unflatten(2, hidden_states.shape[2:])


def test_conditioning_that_changes_in_each_step_is_no_reason_to_run_batches_for_nothing():
    fast = fc.optimize(Guided(), METHOD, num_steps=STEPS)

    def go(steps, change=0.1):
        x, session = noise(), fast.new_session()
        with torch.no_grad():
            for step, timestep in enumerate(steps):
                guidance = torch.full((2,), 1 + change * step)
                x = x - session(hidden_states=x, timestep=timestep.expand(2), guidance=guidance) / 8
        return [x]

    steps = torch.tensor(TIMESTEPS)
    go(steps, 0.0)  # the first batch of all is compared with a step alone
    assert timed_runs(lambda: go(steps, 0.0)) == len(COMPUTED) + 1
    with CountRows() as count:
        go(steps)
    assert count.rows == 2 * STEPS
    assert distance(go(steps), go([step.clone() for step in steps])) < ROUNDING


def test_a_timestep_that_is_not_the_expected_one_does_not_get_its_sums(monkeypatch):
    monkeypatch.setattr(type(backend_from_name("eager")), "fuses", True)
    stamps = (*range(950, 350, -50),)
    method = fc.Method("test", "branch", fc.Table((0, 1, 6, 8)), fc.Taylor(2))
    fast = fc.optimize(tiny_dit(layers=4), method, num_steps=len(stamps))
    steps, other = torch.tensor(stamps), (*stamps[:4], 740, *stamps[5:])

    def move(step):
        steps[4] = 740 if step == 4 else stamps[4]

    want = denoise(fast.new_session(), timesteps=other)
    assert distance(run(fast.new_session(), steps), want) > 1e-4
    assert distance(run(fast.new_session(), steps, before_step=move), want) < ROUNDING
