"""Keeping torch.compile out of what decides in Python."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import torch
from torch._guards import detect_fake_mode

from fouriercache.errors import CaptureError

P = ParamSpec("P")
T = TypeVar("T")


def untraced(function: Callable[P, T]) -> Callable[P, T]:
    """Let a function run as it is when torch.compile traces its caller.

    Which graph a step runs is decided anew in each call; traced, it would be compiled anew in each.
    """
    reason = 'fouriercache decides in Python which graph a step runs; optimize(..., backend="inductor") compiles those'
    disable: Any = torch.compiler.disable
    found: Callable[P, T] = disable(function, reason=reason)
    return found


def check_untraced(what: str, advice: str) -> None:
    """Raise CaptureError when torch.export or torch.jit is tracing, which would keep what one step happens to do.

    What another thread traces is nothing to this one.
    """
    if torch._C._is_tracing() or (torch.compiler.is_exporting() and detect_fake_mode() is not None):
        raise CaptureError(
            f"{what} cannot be traced: Python decides which graph a step runs and what is kept.\n  {advice}"
        )
