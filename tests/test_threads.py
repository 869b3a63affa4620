"""Threads that run steps while another one captures: torch.export fakes the weights, and has torch to itself."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import fouriercache as fc
from fouriercache.gates import Gate, gate_of
from fouriercache.passes.edit import insert_traced
from fouriercache.testing.programs import trace
from tests.tiny import METHOD, ROUNDING, TIMESTEPS, denoise, distance, labels, noise, step_inputs, tiny_dit

pytestmark = pytest.mark.usefixtures("captured_anew")


@contextmanager
def running(work: Callable[[], str]) -> Iterator[Counter[str]]:
    """Let another thread do a piece of work again and again; count what it says, and the errors it raises."""
    found, is_over, has_begun = Counter[str](), threading.Event(), threading.Event()

    def run() -> None:
        while not is_over.is_set():
            try:
                found[work()] += 1
            except Exception as error:  # noqa: BLE001  # whatever it is, the test shows it
                found[f"{type(error).__name__}: {error}"] += 1
            has_begun.set()

    thread = threading.Thread(target=run)
    thread.start()
    try:
        assert has_begun.wait(60)
        yield found
    finally:
        is_over.set()
        thread.join(60)
    assert not thread.is_alive()


def optimized(seed: int = 0) -> Any:
    return fc.optimize(tiny_dit(seed), METHOD, num_steps=len(TIMESTEPS), example_inputs=inputs())


def inputs() -> dict[str, Tensor]:
    return step_inputs(noise(), 900, labels())


def steady(fast: Any) -> Callable[[], str]:
    """A run of the thread's own session, and whether it gives what the first one gave.

    Not to the bit: while torch exports, oneDNN is off in all threads.
    """
    wanted: list[list[Tensor]] = []

    def work() -> str:
        found = denoise(fast)
        wanted.append(found)
        return "right" if distance(found, wanted[0]) < ROUNDING else "wrong"

    return work


@pytest.mark.parametrize("is_same_model", [True, False], ids=["the same model", "another model"])
def test_a_thread_runs_on_undisturbed_while_another_captures(is_same_model):
    fast = optimized()
    other = fast if is_same_model else optimized(seed=1)
    text = other.program("compute").text()
    with running(steady(fast)) as found:
        other.capture(inputs())
    assert other.program("compute").text() == text
    assert set(found) == {"right"}


def test_a_session_in_mid_trajectory_goes_on_while_its_model_is_captured_for_another_one():
    fast = optimized()
    wanted = denoise(fast.new_session())
    threads = []

    def capture(step: int) -> None:
        if step == 2:
            threads.append(threading.Thread(target=lambda: fast.capture(inputs())))
            threads[-1].start()
            time.sleep(0.3)  # it is in the middle of it

    assert distance(denoise(fast.new_session(), before_step=capture), wanted) < ROUNDING
    threads[0].join(60)
    assert len(fast.captured) == 2


def test_a_model_that_is_optimised_twice_is_captured_behind_one_gate():
    """Each of the two has a lock of its own, and torch.export fakes the weights of both."""
    fast = optimized()
    other = fc.optimize(fast.model, METHOD, num_steps=len(TIMESTEPS))
    with running(steady(fast)) as found:
        other.capture(inputs())
    assert set(found) == {"right"}


def test_a_thread_runs_on_undisturbed_while_another_exports_a_model_of_its_own():
    fast = optimized()
    other = nn.Sequential(*[nn.Linear(16, 16) for _ in range(60)])
    with running(steady(fast)) as found:
        torch.export.export(other, (torch.randn(2, 16),))
    assert set(found) == {"right"}


def test_two_threads_that_capture_at_once_leave_nn_module_as_it_was():
    """torch's tracer replaces methods of `nn.Module`, and puts back what stood there when it began."""
    call, getattribute = nn.Module.__call__, nn.Module.__getattr__
    first, second = (fc.optimize(tiny_dit(seed), METHOD, num_steps=len(TIMESTEPS)) for seed in (0, 1))

    def capture() -> str:
        second.capture(inputs())
        return "captured"

    with running(capture) as found:
        first.capture(inputs())
    assert set(found) == {"captured"}
    assert (nn.Module.__call__, nn.Module.__getattr__) == (call, getattribute)
    assert first.program("compute").text() == second.program("compute").text()


def test_compiled_graphs_run_while_another_thread_traces_a_rewrite():
    """torch refuses compiled code wherever a bare make_fx traces, in whatever thread; passes trace what they insert."""

    def add(x: Tensor) -> Tensor:
        return x + 1

    compiled = torch.compile(add, backend="eager")
    given, found = torch.ones(2), list[Tensor]()
    compiled(given)
    program = trace(lambda x: x * 2, given)

    def insert(x: Tensor) -> Tensor:
        thread = threading.Thread(target=lambda: found.append(compiled(given)))
        thread.start()
        thread.join(60)
        return x + x

    (call,) = program.calls()
    insert_traced(call, insert, program.placeholders[0])
    assert [value.tolist() for value in found] == [[2.0, 2.0]]


def test_a_session_that_is_traced_is_refused():
    session = optimized().new_session()

    class Loop(nn.Module):
        def forward(self, hidden_states: Tensor, timestep: Tensor, class_labels: Tensor) -> Any:
            return session(hidden_states=hidden_states, timestep=timestep, class_labels=class_labels)

    with pytest.raises(fc.CaptureError, match="cannot be traced"):
        torch.export.export(Loop(), (), inputs(), strict=False)


def test_who_waits_to_be_alone_goes_before_those_that_come_later():
    gate, order = Gate(), list[str]()
    inside, leave, waits = threading.Event(), threading.Event(), threading.Event()

    def read(name: str) -> None:
        with gate:
            order.append(name)
            inside.set()
            assert leave.wait(60)

    def swap() -> None:
        waits.set()
        with gate.alone(), gate, gate.alone():  # in its own thread everything passes
            order.append("alone")

    threads = [threading.Thread(target=read, args=("first",))]
    threads[0].start()
    assert inside.wait(60)
    threads.append(threading.Thread(target=swap))
    threads[1].start()
    assert waits.wait(60)
    time.sleep(0.1)
    threads.append(threading.Thread(target=read, args=("later",)))
    threads[2].start()
    time.sleep(0.1)
    assert order == ["first"]
    leave.set()
    for thread in threads:
        thread.join(60)
    assert order == ["first", "alone", "later"]


def test_models_have_a_gate_each():
    one, other = nn.Linear(2, 2), nn.Linear(2, 2)
    assert gate_of(one) is gate_of(one)
    assert gate_of(one) is not gate_of(other)


@pytest.mark.parametrize("ask", [lambda fast: fast.capture(inputs()), lambda fast: fast.to("cpu")])
def test_a_hook_that_asks_for_the_model_alone_in_its_own_forward_is_refused(ask: Callable[[Any], object]):
    fast = optimized()
    hook = fast.model.register_forward_pre_hook(lambda *_: ask(fast) and None)
    try:
        with gate_of(fast.model), pytest.raises(fc.CaptureError, match="in the middle of its own forward"):
            fast.model(**inputs())
    finally:
        hook.remove()


def test_a_thread_that_is_inside_goes_deeper_though_another_waits():
    gate, is_alone = Gate(), threading.Event()

    def swap() -> None:
        with gate.alone():
            is_alone.set()

    with gate:
        thread = threading.Thread(target=swap)
        thread.start()
        while not gate._waiting:
            time.sleep(0.001)
        with gate:
            assert not is_alone.is_set()
        assert not is_alone.is_set()
    thread.join(60)
    assert is_alone.is_set()
