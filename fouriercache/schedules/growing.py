"""Gaps that grow towards the end."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import takewhile
from math import floor
from typing import ClassVar

from ..checks import check_number, check_whole
from .base import FixedSchedule, check_num_steps, check_step


@dataclass(frozen=True)
class Growing(FixedSchedule):
    """Compute the first `warmup` steps, then at gaps that grow: Spectrum (arXiv:2603.01623).

    The r-th gap after the warm-up, r = 0, 1, ..., is::

        floor(window + alpha * r)

    This is `our_flux_forward` of Spectrum, src/pipelines/flux_forward.py, where window is window_size, alpha is
    flex_window and warmup is warmup_steps: a window begins at window_size, a step is computed when floor(window) - 1
    steps have been cached since the last computed one, and the window then grows by flex_window and is rounded to 3
    digits. (The paper states the same growth as computed steps at floor(alpha r (r + 1) / 2).)

    Raises MethodError when `alpha` is not a finite number of at least 0, `window` not one of at least 1, or `warmup`
    not a whole number of at least 1.
    """

    name: ClassVar[str] = "growing"
    needs_num_steps: ClassVar[bool] = False

    alpha: float = 0.75
    window: float = 2.0
    warmup: int = 5

    def __post_init__(self) -> None:
        check_number("Growing", "alpha", self.alpha, least=0, advice="alpha=0 keeps the gap; the published is 0.75.")
        check_number("Growing", "window", self.window, least=1, advice="It is the first gap; the published is 2.")
        check_whole(
            "Growing",
            "warmup",
            self.warmup,
            least=1,
            advice="warmup=1 computes only the first step before the gaps begin; step 0 has nothing to reuse.",
        )

    def steps(self, num_steps: int | None) -> tuple[int, ...] | None:
        """Return the computed steps, ascending; None when `num_steps` is None, as the end is not known then.

        Raises MethodError when `num_steps` is not a whole number of at least 1.
        """
        if num_steps is None:
            return None
        check_num_steps(self, num_steps)
        return tuple(takewhile(lambda step: step < num_steps, self._all_steps()))

    def is_computed(self, step: int, num_steps: int | None) -> bool:
        """Return whether `step` is computed. Raises TrajectoryError when `step` is outside the trajectory."""
        check_step(self, step, num_steps)
        return next(done for done in self._all_steps() if done >= step) == step

    def _all_steps(self) -> Iterator[int]:
        """Yield the computed steps without end."""
        yield from range(self.warmup)
        step, window = self.warmup - 1, float(self.window)
        while True:
            step += floor(window)
            yield step
            window = round(window + self.alpha, 3)  # as published, so that sums of decimals stay decimals
