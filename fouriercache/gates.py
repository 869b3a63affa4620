"""Who may look at a model's weights, and who traces: torch.export puts fake tensors in their place for a while."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from types import TracebackType
from typing import Any, ParamSpec, TypeVar

import torch
from torch import nn
from torch.utils.weak import WeakIdKeyDictionary

from fouriercache.errors import CaptureError

P = ParamSpec("P")
T = TypeVar("T")

TRACING = threading.RLock()
"""Held by what traces and by what computes with dynamic sizes: both are one thread's at a time.

torch replaces methods of `nn.Module` while it traces, for all threads, and puts back what was there; and a sum of two
sizes goes to the tracer, whoever adds them. Who holds it waits for no gate.
"""


def one_at_a_time(function: Callable[P, T]) -> Callable[P, T]:
    """Let a function run while no other thread traces."""

    @wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> T:
        with TRACING:
            return function(*args, **kwargs)

    return run


@contextmanager
def tracing() -> Iterator[None]:
    """Let make_fx trace while no other thread does; torch is told, or compiled code in any thread would refuse."""
    with TRACING:
        compiler: Any = torch.compiler
        before = compiler._is_compiling_flag
        compiler._is_compiling_flag = True
        try:
            yield
        finally:
            compiler._is_compiling_flag = before


class Gate:
    """What reads a model's weights goes through side by side; what swaps them goes alone.

    `with gate:` reads, `with gate.alone():` swaps. Who waits to be alone goes before those that come later; a thread
    that is inside goes deeper whoever waits, and in the thread that is alone everything passes.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._inside: dict[int, int] = {}  # how deep each thread is
        self._waiting = 0
        self._owner, self._depth = 0, 0

    def __enter__(self) -> None:
        me = threading.get_ident()
        with self._lock:
            depth = self._inside.get(me, 0)
            if not depth and (self._owner or self._waiting) and self._owner != me:
                self._changed.wait_for(lambda: not self._owner and not self._waiting)
            self._inside[me] = depth + 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        me = threading.get_ident()
        with self._lock:
            depth = self._inside[me] - 1
            if depth:
                self._inside[me] = depth
                return
            del self._inside[me]
            if self._waiting and not self._inside:
                self._changed.notify_all()

    def check_outside(self) -> None:
        """Raise CaptureError in a thread that is inside, or alone: what it wants to do would wait for itself."""
        me = threading.get_ident()
        if me == self._owner or me in self._inside:
            raise CaptureError(
                "the model is to be captured, moved or loaded in the middle of its own forward or step, as a hook may "
                "ask.\n  Do so between two calls."
            )

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Wait until nobody else is inside, and let nobody else in.

        Raises CaptureError in a thread that is inside: it would wait for itself.
        """
        me = threading.get_ident()
        with self._lock:
            if self._owner != me:
                self.check_outside()
                self._waiting += 1
                try:
                    self._changed.wait_for(lambda: not self._owner and not self._inside)
                    self._owner = me
                finally:
                    self._waiting -= 1
                    self._changed.notify_all()
            self._depth += 1
        try:
            yield
        finally:
            with self._lock:
                self._depth -= 1
                if not self._depth:
                    self._owner = 0
                    self._changed.notify_all()


_GATES = WeakIdKeyDictionary()
_LOCK = threading.Lock()


def gate_of(model: nn.Module) -> Gate:
    """Return the gate of a model; it is the same for all that is made of the model."""
    with _LOCK:
        found: Gate = _GATES.setdefault(model, Gate())
    return found
