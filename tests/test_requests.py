"""Requests do not disturb each other: threads, separate guidance passes, cache contexts."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from typing import Any

import pytest
import torch
from torch import Tensor

import fouriercache as fc
from tests.tiny import (
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

NULL = torch.tensor([10, 10])


def in_turns(jobs: list[Callable[[Callable[[int], None]], Any]]) -> list[Any]:
    """Run jobs in threads that take turns at every step, so that their calls interleave as much as they can."""
    barrier = threading.Barrier(len(jobs), timeout=60)

    def wait(_: int) -> None:
        barrier.wait()

    def run(job: Callable[[Callable[[int], None]], Any]) -> Any:
        try:
            return job(wait)
        except BaseException:
            barrier.abort()
            raise

    with ThreadPoolExecutor(len(jobs)) as pool:
        return [future.result() for future in [pool.submit(run, job) for job in jobs]]


def requests(count: int) -> list[dict[str, Any]]:
    """Different latents and labels, and timesteps of their own."""
    return [
        {
            "x": noise(seed=seed),
            "classes": labels(first=seed),
            "timesteps": tuple(value - 7 * seed for value in TIMESTEPS),
        }
        for seed in range(count)
    ]


def test_sessions_in_threads_give_what_each_gives_alone(fast):
    wanted = [denoise(fast.new_session(), **request) for request in requests(3)]
    sessions = [fast.new_session() for _ in wanted]

    def job(session: Any, request: dict[str, Any]) -> Callable[[Callable[[int], None]], list[list[Tensor]]]:
        return lambda wait: [denoise(session, before_step=wait, **request) for _ in range(3)]

    found = in_turns([job(session, request) for session, request in zip(sessions, requests(3), strict=True)])
    assert all(is_same(have, want) for runs, want in zip(found, wanted, strict=True) for have in runs)


@pytest.mark.slow
def test_compiled_graphs_serve_sessions_in_threads():
    fast = fc.optimize(tiny_dit(), METHOD, num_steps=len(TIMESTEPS), backend="inductor")
    wanted = [denoise(fast.new_session(), **request) for request in requests(2)]

    def job(session: Any, request: dict[str, Any]) -> Callable[[Callable[[int], None]], list[Tensor]]:
        return lambda wait: denoise(session, before_step=wait, **request)

    found = in_turns([job(fast.new_session(), request) for request in requests(2)])
    assert all(is_same(have, want) for have, want in zip(found, wanted, strict=True))


def test_the_module_itself_serves_threads_that_begin_before_any_capture():
    model = tiny_dit()
    fast = fc.optimize(model, METHOD, num_steps=len(TIMESTEPS))

    def job(request: dict[str, Any]) -> Callable[[Callable[[int], None]], list[list[Tensor]]]:
        return lambda wait: [denoise(fast, before_step=wait, **request) for _ in range(2)]

    found = in_turns([job(request) for request in requests(2)])
    for request, runs in zip(requests(2), found, strict=True):
        want = denoise(fast.new_session(), **request)
        assert all(is_same(have, want) for have in runs)
        assert distance(want, denoise(BruteForce(model), **request)) < ROUNDING
    assert len(fast._steppers) == 1


def test_sessions_with_prepared_timesteps_and_cache_contexts_in_threads_are_apart(fast):
    """What one thread prepares, names and resets is nothing to the other."""
    first, second = requests(2)
    want = [denoise(fast.new_session(), **first), denoise(fast.new_session(), **second)]

    def prepares(wait: Callable[[int], None]) -> list[Tensor]:
        fast.prepare(first["timesteps"])
        with fast.cache_context("cond"):
            found = denoise(fast, before_step=wait, **first)
        fast.reset()
        return found

    def does_not(wait: Callable[[int], None]) -> list[Tensor]:
        return denoise(fast, before_step=wait, **second)

    found = in_turns([prepares, does_not])
    assert distance(found[0], want[0]) < ROUNDING
    assert is_same(found[1], want[1])


def test_one_session_called_from_two_threads_at_once_is_refused(fast, monkeypatch):
    session = fast.new_session()
    denoise(session)
    inside, leave = threading.Event(), threading.Event()
    flatten = session._flatten

    def slowly(*call: Any) -> Any:
        inside.set()
        assert leave.wait(60)
        return flatten(*call)

    monkeypatch.setattr(session, "_flatten", slowly)
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(denoise, session, timesteps=(900,))
        assert inside.wait(60)
        try:
            with pytest.raises(fc.TrajectoryError, match=r"(?s)in the middle of another call.*fast.new_session\(\)"):
                session(**step_inputs(noise(), 900, labels()))
        finally:
            leave.set()
        assert is_same(running.result(), denoise(fast.new_session(), timesteps=(900,)))


def guided(model: Callable[..., Any], *, contexts: Callable[[str], Any] = lambda _: nullcontext()) -> list[Tensor]:
    """Denoise with two calls a step, one for the class and one without; return both outputs of each step, in turn."""
    x, outputs = noise(), []
    with torch.no_grad():
        for timestep in TIMESTEPS:
            found = []
            for name, classes in (("cond", labels()), ("uncond", NULL)):
                with contexts(name):
                    found.append(model(**step_inputs(x, timestep, classes)).sample)
            outputs += found
            x = x - (found[1] + 2 * (found[0] - found[1])) / 8
    return outputs


class OnePassEach:
    """Two models, each of which sees one of the two passes."""

    def __init__(self, cond: Callable[..., Any], uncond: Callable[..., Any]) -> None:
        self.models = {False: cond, True: uncond}

    def __call__(self, **inputs: Any) -> Any:
        return self.models[torch.equal(inputs["class_labels"], NULL)](**inputs)


@pytest.fixture(scope="module")
def guided_apart(fast):
    found = guided(OnePassEach(fast.new_session(), fast.new_session()))
    assert distance(found, guided(OnePassEach(BruteForce(fast.model), BruteForce(fast.model)))) < ROUNDING
    return found


def test_two_calls_a_step_give_what_two_modules_give(fast, guided_apart):
    session = fast.new_session()
    for _ in range(3):
        assert is_same(guided(session), guided_apart)


def test_two_calls_a_step_in_cache_contexts_give_what_two_modules_give(fast, guided_apart):
    session = fast.new_session()
    for _ in range(3):
        assert is_same(guided(session, contexts=session.cache_context), guided_apart)


def test_two_calls_a_step_with_timesteps_prepared_give_what_two_modules_give(fast, guided_apart):
    session = fast.new_session()
    session.prepare(TIMESTEPS)
    for _ in range(2):
        assert distance(guided(session), guided_apart) < ROUNDING


def test_a_guided_run_broken_off_leaves_nothing_to_the_next(fast, guided_apart):
    session = fast.new_session()
    for timestep in TIMESTEPS[:5]:
        for classes in (labels(), NULL):
            session(**step_inputs(noise(seed=7), timestep, classes))
    assert is_same(guided(session), guided_apart)


def test_a_declared_number_of_passes_that_is_wrong_is_refused(fast):
    once = fc.optimize(fast.model, METHOD, num_steps=len(TIMESTEPS), passes_per_step=1)
    with pytest.raises(fc.TrajectoryError, match=r"(?s)more calls .*passes: 1.*passes_per_step"):
        guided(once)


def test_passes_hold_as_many_features_as_two_modules(fast, guided_apart):
    session, single = fast.new_session(), fast.new_session()
    denoise(single)
    guided(session)
    assert session.cache_bytes == 2 * single.cache_bytes
