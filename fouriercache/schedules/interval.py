"""One step in n, counted from either end."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from ..checks import check_choice, check_whole
from ..errors import MethodError
from .base import FixedSchedule, check_num_steps, check_step


@dataclass(frozen=True)
class Interval(FixedSchedule):
    """Compute the first `warmup` steps, then one step in `n`.

    `anchor="first"` counts the interval from the last warm-up step::

        step < warmup or (step - (warmup - 1)) % n == 0

    This is TaylorSeer's rule (TaylorSeer-DiT, cache_functions/cal_type.py), `warmup` its first_enhance: a step is full
    where `i > T - first_enhance - 1`, or where n - 1 steps have been cached since the last full one.

    `anchor="last"` counts it back from the last step, which is therefore always computed::

        step < warmup or (num_steps - 1 - step) % n == 0

    This is FORA's rule (FORA, src/models.py) with `warmup=1`: computed where `i == T - 1 or i % n == 0`.

    Raises MethodError when `n` or `warmup` is not a whole number of at least 1, or `anchor` is another word.
    """

    name: ClassVar[str] = "interval"

    n: int
    warmup: int = 1
    anchor: Literal["first", "last"] = "first"

    def __post_init__(self) -> None:
        check_whole("Interval", "n", self.n, least=1, advice="n=1 computes every step, n=5 one step in five.")
        check_whole(
            "Interval",
            "warmup",
            self.warmup,
            least=1,
            advice="warmup=1 computes only the first step before the interval starts; step 0 has nothing to reuse.",
        )
        check_choice("Interval", "anchor", self.anchor, ("first", "last"))

    @property
    def needs_num_steps(self) -> bool:
        """True when the interval is counted back from the last step."""
        return self.anchor == "last"

    def steps(self, num_steps: int | None) -> tuple[int, ...] | None:
        """Return the computed steps, ascending; None when `num_steps` is None, as the end is not known then.

        Raises MethodError when `num_steps` is not a whole number of at least 1.
        """
        if num_steps is None:
            return None
        check_num_steps(self, num_steps)
        return tuple(step for step in range(num_steps) if self.is_computed(step, num_steps))

    def is_computed(self, step: int, num_steps: int | None) -> bool:
        """Return whether `step` is computed.

        Raises MethodError when the anchor is the last step and `num_steps` is None, and TrajectoryError when `step` is
        outside the trajectory.
        """
        check_step(self, step, num_steps)
        if self.anchor == "first":
            return step < self.warmup or (step - (self.warmup - 1)) % self.n == 0
        if num_steps is None:
            raise MethodError(
                "An interval counted from the last step needs the number of steps, and it is not known.\n"
                f"  where: {self!r}, asked about step {step}\n"
                "  Pass num_steps= to optimize, or use anchor='first'."
            )
        return step < self.warmup or (num_steps - 1 - step) % self.n == 0
