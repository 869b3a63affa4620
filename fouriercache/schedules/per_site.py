"""An interval for each site."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from ..checks import check_whole
from ..errors import MethodError
from .base import FixedSchedule, Place, check_num_steps, check_step


@dataclass(frozen=True)
class PerSite(FixedSchedule):
    """Each site has an interval of its own: site i is computed where the step is a multiple of `intervals[i]`.

    Sites are counted in the order of execution, as in `fast.report.sites`. All sites are computed at step 0, and again
    at common multiples of all intervals. `fouriercache.analyze` suggests intervals. Each set of sites that is computed
    together is a program of its own, so few different intervals are better than many.

    Raises MethodError when `intervals` is not a tuple of whole numbers of at least 1, or empty.
    """

    name: ClassVar[str] = "per-site"
    needs_num_steps: ClassVar[bool] = False

    intervals: tuple[int, ...]

    def __post_init__(self) -> None:
        given: object = self.intervals
        if not isinstance(given, tuple) or not given:
            raise MethodError(
                f"PerSite needs a tuple of intervals, got {self.intervals!r}.\n"
                f"  where: PerSite({self.intervals!r})\n"
                "  Pass one for each site, in the order of fast.report.sites."
            )
        for site, interval in enumerate(self.intervals):
            advice = "3 computes the site at one step in three."
            check_whole("PerSite", f"intervals[{site}]", interval, least=1, advice=advice)

    def steps(self, num_steps: int | None) -> tuple[int, ...] | None:
        """Return the steps at which all sites are computed; None when `num_steps` is None.

        Raises MethodError when `num_steps` is not a whole number of at least 1.
        """
        if num_steps is None:
            return None
        check_num_steps(self, num_steps)
        return tuple(step for step in range(num_steps) if self.is_computed(step, num_steps))

    def is_computed(self, step: int, num_steps: int | None) -> bool:
        """Return whether all sites are computed at `step`.

        Raises TrajectoryError when `step` is outside the trajectory.
        """
        check_step(self, step, num_steps)
        return all(step % interval == 0 for interval in self.intervals)

    def refreshed(self, step: int, num_steps: int | None, places: Sequence[Place]) -> tuple[int, ...]:
        """Return the sites whose interval divides `step`.

        Raises MethodError when there are more or fewer sites than intervals, and TrajectoryError when `step` is outside
        the trajectory.
        """
        check_step(self, step, num_steps)
        if len(places) != len(self.intervals):
            raise MethodError(
                f"PerSite has {len(self.intervals)} intervals, and the model {len(places)} sites.\n"
                f"  where: {self!r}\n"
                "  Pass one for each site of this model and kind of site; fouriercache.analyze counts them."
            )
        return tuple(site for site, interval in enumerate(self.intervals) if step % interval == 0)

    @property
    def uncached(self) -> frozenset[int]:
        """The sites of interval 1: they are computed at every step, and nothing need be kept of them."""
        return frozenset(site for site, interval in enumerate(self.intervals) if interval == 1)

    def share(self, num_steps: int) -> float:
        """Return the share of all sites' steps that is computed, above 0 and at most 1.

        Raises MethodError when `num_steps` is not a whole number of at least 1.
        """
        check_num_steps(self, num_steps)
        computed = sum(1 + (num_steps - 1) // interval for interval in self.intervals)
        return computed / (num_steps * len(self.intervals))
