"""What every schedule answers, and the checks they share."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from ..checks import check_whole
from ..errors import TrajectoryError


@runtime_checkable
class Schedule(Protocol):
    """Says at which steps a value is computed. Every schedule computes step 0: before it there is nothing to reuse."""

    @property
    def name(self) -> str:
        """The schedule's kind in one word, for tables and manifests."""

    @property
    def needs_num_steps(self) -> bool:
        """Whether `is_computed` can answer only when it is told the number of steps."""

    def steps(self, num_steps: int | None) -> tuple[int, ...] | None:
        """Return the computed steps of a trajectory, ascending, the first always 0; None if they cannot be listed."""

    def is_computed(self, step: int, num_steps: int | None) -> bool:
        """Return whether `step` is computed."""


def check_num_steps(schedule: Schedule, num_steps: int) -> None:
    """Raise MethodError unless `num_steps` is a whole number of at least 1."""
    check_whole(
        type(schedule).__name__, "num_steps", num_steps, least=1, advice="It is the scheduler's number of steps."
    )


def check_step(schedule: Schedule, step: int, num_steps: int | None) -> None:
    """Raise TrajectoryError when `step` is outside a trajectory of `num_steps`."""
    if step < 0 or (num_steps is not None and step >= num_steps):
        length = "" if num_steps is None else f" of {num_steps} steps"
        raise TrajectoryError(
            f"Step {step} is not in a trajectory{length}; steps count from 0.\n"
            f"  where: {schedule!r}\n"
            "  Give num_steps= the number of steps the scheduler really takes, and reset before a new trajectory."
        )
