"""An interval that shrinks towards the end of a trajectory."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

from ..checks import check_number, check_whole
from ..errors import MethodError
from .base import FixedSchedule, Place, check_num_steps, check_step


@dataclass(frozen=True)
class Tapered(FixedSchedule):
    """ToCa's schedule: an interval of about `n`, longer at first and shorter towards the end.

    Counted as in the published code, i = T - 1 ... 0, with an interval r that each computed step sets anew::

        computed where i == T - 1 or i % r == 0
        r = 2 where int(0.2 T) <= i < int(0.4 T), else round(n / (1 + taper - 2 * taper * i / T)), half to even

    and r = n at the first step (ToCa, DiT-ToCa/cache_functions/force_scheduler.py and cal_type.py; taper is 0.4 there).
    With `taper=0` r stays n, as in `Interval(n, anchor="last")`.

    In the published code every block decides for itself, and the first block of a computed step sets r for those behind
    it: where i is divided by the old r and not by the new one, the first block alone is computed. `published=True` has
    these steps; without it, all blocks of a step do what the first one does.

    Raises MethodError when `n` is not a whole number of at least 1, or `taper` not a number from 0 to below 1.
    """

    name: ClassVar[str] = "tapered"
    needs_num_steps: ClassVar[bool] = True

    n: int
    taper: float = 0.4
    published: bool = False

    def __post_init__(self) -> None:
        check_whole("Tapered", "n", self.n, least=1, advice="n=3 computes about one step in three.")
        check_number(
            "Tapered", "taper", self.taper, least=0, advice="0.4 is published, 0 leaves the interval as it is."
        )
        if self.taper >= 1:
            raise MethodError(
                f"Tapered needs taper below 1, got {self.taper}.\n"
                f"  where: Tapered({self.n}, taper={self.taper})\n"
                "  At 1 the first interval would have no end; 0.4 is published."
            )

    def steps(self, num_steps: int | None) -> tuple[int, ...] | None:
        """Return the steps at which every block is computed; None when `num_steps` is None.

        Raises MethodError when `num_steps` is not a whole number of at least 1.
        """
        if num_steps is None:
            return None
        check_num_steps(self, num_steps)
        return tuple(step for step, is_whole in self._begun(num_steps) if is_whole)

    def is_computed(self, step: int, num_steps: int | None) -> bool:
        """Return whether every block is computed at `step`.

        Raises MethodError when `num_steps` is None, and TrajectoryError when `step` is outside the trajectory.
        """
        return step in (self.steps(self._known(step, num_steps)) or ())

    def refreshed(self, step: int, num_steps: int | None, places: Sequence[Place]) -> tuple[int, ...]:
        """Return the sites of the first block at the published code's odd steps; none at others."""
        if (step, False) not in self._begun(self._known(step, num_steps)):
            return ()
        return tuple(site for site, place in enumerate(places) if place.layer == 0)

    def _known(self, step: int, num_steps: int | None) -> int:
        check_step(self, step, num_steps)
        if num_steps is None:
            raise MethodError(
                "A tapered interval depends on the number of steps, and it is not known.\n"
                f"  where: {self!r}, asked about step {step}\n"
                "  Pass num_steps= to optimize."
            )
        return num_steps

    def _begun(self, num_steps: int) -> Iterator[tuple[int, bool]]:
        """Yield the steps at which the first block is computed, and whether the others are, too."""
        interval = self.n
        for step in range(num_steps):
            index = num_steps - 1 - step
            if step and index % interval:
                continue
            interval = self._interval(index, num_steps)
            yield step, step == 0 or not self.published or index % interval == 0

    def _interval(self, index: int, num_steps: int) -> int:
        if self.taper and int(num_steps * 0.2) <= index < int(num_steps * 0.4):
            return 2
        factor = as_float32(1 + self.taper - 2 * self.taper * index / num_steps)
        # a number over a tensor is, in torch, the number times the tensor's reciprocal, and is rounded twice
        return max(1, round(as_float32(self.n * as_float32(1 / factor))))


def as_float32(value: float) -> float:
    """Return the float32 nearest to `value`, for rules that were published in float32 and round the result."""
    nearest: float = struct.unpack("f", struct.pack("f", value))[0]
    return nearest
