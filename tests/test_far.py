"""What lies on a GPU is read without waiting for it. The CPU stands in for one: its numbers are called far."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

import fouriercache as fc
from fouriercache.runtime import check_finite, conditioning, far
from fouriercache.runtime import request as request_module
from fouriercache.runtime.check_finite import FiniteCheck
from fouriercache.runtime.far import Stamps
from tests.tiny import METHOD, ROUNDING, TIMESTEPS, denoise, distance, is_same, labels, noise, step_inputs, tiny_dit

STEPS = len(TIMESTEPS)


class SlowAnswer:
    """Comes when `there` is set, and says whether it was waited for."""

    there = False
    waited = 0

    def __init__(self, number: Tensor) -> None:
        self._number = number.clone()

    def is_here(self) -> bool:
        return self.there

    def read(self) -> float:
        type(self).waited += not self.there
        return float(self._number)


class CountReads(TorchDispatchMode):
    """Counts what is read of tensors, for which a host would wait."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        super().__init__()
        self.count = 0
        to_list = Tensor.tolist

        def count(tensor: Tensor) -> Any:  # which calls no operator on the CPU
            self.count += 1
            return to_list(tensor)

        monkeypatch.setattr(Tensor, "tolist", count)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += func in (torch.ops.aten._local_scalar_dense.default, torch.ops.aten.equal.default)
        return func(*args, **(kwargs or {}))


@pytest.fixture
def reads(monkeypatch) -> list[int]:
    """Call everything far; the number of values of each read of a timestep."""
    found: list[int] = []
    read: Callable[[Tensor], tuple[float, ...]] = far._numbers_of

    def count(tensor: Tensor) -> tuple[float, ...]:
        found.append(tensor.numel())
        return read(tensor)

    monkeypatch.setattr(far, "_numbers_of", count)
    monkeypatch.setattr(request_module, "FiniteCheck", lambda is_on: FiniteCheck(is_on, SlowAnswer))
    for module, name in ((far, "is_far"), (conditioning, "is_far"), (check_finite, "can_send")):
        monkeypatch.setattr(module, name, lambda _: True)
    monkeypatch.setattr(SlowAnswer, "there", False)
    monkeypatch.setattr(SlowAnswer, "waited", 0)
    return found


def test_a_list_of_timesteps_is_read_once_for_all_views_of_it(reads):
    stamps, steps = Stamps(), torch.tensor(TIMESTEPS)
    for step, number in zip(steps, TIMESTEPS, strict=True):
        assert stamps.read(step) == (number,)
        assert stamps.read(step.expand(3)) == stamps.read(step[None].expand(3)) == (number,) * 3
    assert reads == [STEPS]
    steps[2] = 650
    assert stamps.read(steps[2]) == (650.0,)
    assert stamps.read(steps[3:4]) == (600.0,)
    assert reads == [STEPS, STEPS]


@pytest.mark.parametrize(
    ("make", "size"),
    [
        (lambda steps: (steps[1] / 1000).expand(2), 2),  # one number is no list
        (lambda steps: steps[1].repeat(2), 2),
        (lambda steps: steps[1:3], 2),  # one for each sample
        (lambda steps: torch.arange(5000)[7:8], 1),  # of a list too long to be one of timesteps
        (lambda steps: steps[2:2], 0),
    ],
)
def test_a_timestep_that_is_no_single_view_of_a_list_is_read_by_itself(reads, make, size):
    stamp = make(torch.tensor(TIMESTEPS))
    assert Stamps().read(stamp) == tuple(map(float, stamp.tolist()))
    assert reads == [size]


def test_timesteps_made_in_inference_mode_are_read_each_time(reads):
    with torch.inference_mode():
        steps = torch.tensor(TIMESTEPS)
        stamps = Stamps()
        for _ in range(2):
            assert stamps.read(steps[4]) == (500.0,)
        steps[4] = 450
        assert stamps.read(steps[4]) == (450.0,)


def run(session: Any, steps: Tensor, before_step: Callable[[int], None] = lambda _: None) -> list[Tensor]:
    """A loop as pipelines have it: each step is given a view of the scheduler's timesteps."""
    x, classes, outputs = noise(), labels(), []
    with torch.no_grad():
        for number, step in enumerate(steps):
            before_step(number)
            result = session(hidden_states=x, timestep=step.expand(2), class_labels=classes).sample
            outputs.append(result)
            x = x - result / 8
    return outputs


@pytest.mark.parametrize("is_prepared", [False, True])
def test_no_step_but_the_first_and_the_last_waits(reads, is_prepared, monkeypatch):
    fast = fc.optimize(tiny_dit(), METHOD, num_steps=STEPS)
    want = denoise(fast.new_session())
    session, steps = fast.new_session(), torch.tensor(TIMESTEPS)
    if is_prepared:
        session.prepare(TIMESTEPS)
    run(session, steps)  # the first batch of hoisted values is compared with a step alone
    reads.clear()
    counter, seen = CountReads(monkeypatch), []

    def count(step: int) -> None:
        seen.append(counter.count)

    steps = torch.tensor(TIMESTEPS)  # the next run's own
    SlowAnswer.waited = 0
    with counter:
        found = run(session, steps, count)
    # from the second step to the last nothing is read, but for a batch of timesteps that was made on the host
    assert [after - before for before, after in pairwise(seen[1:])] == [0, 1, *[0] * (STEPS - 4)]
    assert reads.count(STEPS) == 1
    assert SlowAnswer.waited == STEPS  # all of them at the last step, which waits
    assert distance(found, want) < ROUNDING


@pytest.mark.parametrize("is_prepared", [False, True])
def test_nan_on_a_gpu_is_refused_when_it_is_seen_and_the_trajectory_dropped(reads, is_prepared):
    fast = fc.optimize(tiny_dit(), METHOD, num_steps=STEPS)
    session = fast.new_session()
    if is_prepared:
        session.prepare(TIMESTEPS)
    want = denoise(session)
    call_with(session, 0)
    call_with(session, 1, torch.nan)
    call_with(session, 2)  # not seen yet
    SlowAnswer.there = True
    with pytest.raises(fc.TrajectoryError, match=r"(?s)step 1 \(compute\) holds NaN.*dropped.*begins another"):
        call_with(session, 3)
    assert session.held_bytes == 0
    assert is_same(denoise(session), want)
    if is_prepared:
        with pytest.raises(fc.TrajectoryError, match="prepared"):
            session(**step_inputs(noise(), 1.0, labels()))


def call_with(session: Any, step: int, scale: float = 1.0) -> None:
    session(**step_inputs(noise() * scale, TIMESTEPS[step], labels()))


@pytest.mark.parametrize("step", [0, STEPS - 2, STEPS - 1])
def test_nan_that_is_not_seen_before_is_refused_at_the_last_step(reads, step):
    fast = fc.optimize(tiny_dit(), METHOD, num_steps=STEPS)
    want = denoise(fast.new_session())
    session = fast.new_session()
    for other in range(STEPS - 1):
        call_with(session, other, torch.nan if other == step else 1.0)
    with pytest.raises(fc.TrajectoryError, match=rf"step {step} .*NaN"):
        call_with(session, STEPS - 1, torch.nan if step == STEPS - 1 else 1.0)
    assert session.held_bytes == 0
    assert is_same(denoise(session), want)


def test_a_trajectory_of_unknown_length_is_answered_before_the_next_begins(reads):
    fast = fc.optimize(tiny_dit(), METHOD)
    want = denoise(fast.new_session())
    session = fast.new_session()
    for step in range(STEPS):
        call_with(session, step, torch.nan if step == STEPS - 1 else 1.0)
    with pytest.raises(fc.TrajectoryError, match=rf"step {STEPS - 1} .*NaN"):
        call_with(session, 0)
    assert is_same(denoise(session), want)


def test_what_was_asked_of_a_trajectory_that_is_reset_is_forgotten(reads):
    fast = fc.optimize(tiny_dit(), METHOD, num_steps=STEPS)
    session = fast.new_session()
    call_with(session, 0, torch.nan)
    session.reset()
    SlowAnswer.there = True
    assert len(denoise(session)) == STEPS


def test_nothing_is_asked_where_nothing_is_to_be_checked(reads):
    fast = fc.optimize(tiny_dit(), METHOD, num_steps=STEPS, check_finite=False)
    denoise(fast.new_session())
    assert SlowAnswer.waited == 0


def test_what_is_sent_to_a_device_is_made_on_the_host_whatever_the_default_is(reads):
    fast = fc.optimize(tiny_dit(), METHOD, num_steps=STEPS)
    want, session = denoise(fast.new_session()), fast.new_session()
    session.prepare(TIMESTEPS)
    x, outputs = noise(), []
    for timestep in TIMESTEPS:
        given = step_inputs(x, timestep, labels())
        with torch.no_grad(), torch.device("meta"):
            outputs.append(session(**given).sample)
        x = x - outputs[-1] / 8
    assert distance(outputs, want) < ROUNDING


@pytest.mark.gpu
@pytest.mark.parametrize("is_prepared", [False, True])
def test_a_gpu_is_not_waited_for_between_the_first_step_and_the_last(is_prepared):
    fast = fc.optimize(tiny_dit().cuda(), METHOD, num_steps=STEPS)
    steps = torch.tensor(TIMESTEPS, device="cuda")
    session = fast.new_session()
    if is_prepared:
        session.prepare(TIMESTEPS)
    x, classes = noise().cuda(), labels().cuda()

    def go_through(mode: str) -> None:
        latents = x
        with torch.no_grad():
            for number, step in enumerate(steps):
                is_between = (
                    0 < number < STEPS - 1 and TIMESTEPS[number] != TIMESTEPS[2]
                )  # the first cached step hoists
                torch.cuda.set_sync_debug_mode(mode if is_between else "default")
                out = session(hidden_states=latents, timestep=step.expand(2), class_labels=classes).sample
                latents = latents - out / 8

    try:
        go_through("default")
        go_through("error")
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.gpu
def test_a_gpu_says_of_which_step_the_result_has_nan():
    fast = fc.optimize(tiny_dit().cuda(), METHOD, num_steps=STEPS)
    session = fast.new_session()

    def call(step: int, scale: float = 1.0) -> None:
        session(**step_inputs(noise().cuda() * scale, TIMESTEPS[step], labels().cuda()))

    for step in range(STEPS):
        call(step)
    call(0)
    call(1, torch.nan)
    torch.cuda.synchronize()
    with pytest.raises(fc.TrajectoryError, match=r"step 1 .*NaN"):
        call(2)
