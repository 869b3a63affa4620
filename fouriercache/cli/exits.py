"""How a command ends: its exit code, and which error of the package means which."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from fouriercache.errors import (
    CalibrationError,
    GoldenError,
    MethodError,
    ModelSpecError,
    OptimizeError,
    PassError,
    PathError,
    PreconditionError,
    TargetError,
    VerifyError,
)

CHECK_FAILED, BAD_USE, CANNOT_BE_DONE_HERE = 1, 2, 3
"""0 is done."""

_BAD_USE = MethodError | PreconditionError | CalibrationError | GoldenError | ModelSpecError | PathError | TargetError


def exit_code(error: OptimizeError) -> int | None:
    """Return the exit code of an error; None for a defect of ours, which keeps its traceback."""
    if isinstance(error, PassError | VerifyError):
        return None
    return BAD_USE if isinstance(error, _BAD_USE) else CANNOT_BE_DONE_HERE


@contextmanager
def ends_by_sigterm() -> Iterator[None]:
    """For the time of the context, let SIGTERM end the program by an exception, with the exit code a shell gives it.

    A cancelled job of a CI gets one; by itself it would end Python at once, and leave what is half-written.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # signals are the main thread's
        return
    before = signal.signal(signal.SIGTERM, _end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _end(number: int, frame: Any) -> None:
    del frame
    raise SystemExit(128 + number)
