"""A Taylor series through the last computed features."""

from __future__ import annotations

from dataclasses import dataclass
from math import factorial
from typing import ClassVar

from .differences import DifferenceSeries


@dataclass(frozen=True)
class Taylor(DifferenceSeries):
    """A Taylor series with backward differences for derivatives: TaylorSeer (TaylorSeer-DiT, taylor_utils/__init__.py).

    At a computed step s, d steps after the computed step before it, the factors are updated with the new feature F, the
    second line for j = 0 .. order - 1 as long as there is an old f_j; a step t that is not computed is predicted by the
    third::

        f_0     = F
        f_{j+1} = (f_j - old f_j) / d
        F(t)    = sum_j f_j * (t - s)**j / j!

    All orders divide by this last gap d, so with uneven gaps f_2 and higher are not divided differences; that is how it
    is published. The order available is at most the number of computed steps less one.

    Differences are taken only at computed steps >= `first_difference`. The published code counts steps down and takes
    them where `i < T - first_enhance + 1`. With i = T - 1 - step that is `step > first_enhance - 2`, so
    `first_difference` is first_enhance - 1. Counting up instead of down changes the signs of d and of t - s together,
    and the prediction stays the same.

    Raises MethodError when `order` or `first_difference` is not a whole number of at least 0.
    """

    name: ClassVar[str] = "taylor"

    order: int
    first_difference: int = 0

    def __post_init__(self) -> None:
        self.check_differences("order=0 reuses, 1 follows the slope, 2 the curvature.")

    def weights(self, ahead: int, count: int) -> list[float]:
        """Return ahead**j / j!."""
        return [ahead**power / factorial(power) for power in range(count)]
