"""The check of presets that take an interval or a schedule."""

from __future__ import annotations

import inspect
from collections.abc import Callable

from ..checks import check_whole
from ..errors import MethodError
from ..methods import Method
from ..schedules import Schedule


def check_cadence(preset: Callable[..., Method], interval: int, schedule: Schedule | None) -> None:
    """Raise MethodError when `interval` makes no sense, or is given beside a schedule."""
    owner = preset.__name__
    check_whole(owner, "interval", interval, least=1, advice="interval=1 computes every step, 5 one step in five.")
    if schedule is not None and interval != inspect.signature(preset).parameters["interval"].default:
        raise MethodError(
            f"{owner} got an interval and a schedule, and only one of them can say which steps are computed.\n"
            f"  where: {owner}(interval={interval}, schedule={schedule!r})\n"
            f"  Leave out one of the two."
        )
