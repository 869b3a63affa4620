"""A Taylor series through the last computed features."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import factorial
from typing import ClassVar

from ..checks import check_whole
from .base import ScalarPredictor, check_target
from .differences import backward_factors, weighted_factors


@dataclass(frozen=True)
class Taylor(ScalarPredictor):
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
        check_whole(
            "Taylor", "order", self.order, least=0, advice="order=0 reuses, 1 follows the slope, 2 the curvature."
        )
        check_whole(
            "Taylor",
            "first_difference",
            self.first_difference,
            least=0,
            advice="It is the first step at which differences may be taken; 0 sets no limit.",
        )

    @property
    def history(self) -> int:
        """`order + 1` features: f_j mixes the newest j + 1."""
        return self.order + 1

    def coefficients(self, computed: Sequence[int], step: int) -> tuple[float, ...]:
        """Return the scalars of the published recursion, one more than the order that is available.

        The recursion runs on the scalars by which a factor mixes the features. Those of one feature have the same
        sign in every factor, so nothing cancels and each is right to a few units in the last place.

        Raises TrajectoryError when nothing was computed before `step`, or `computed` is not ascending.
        """
        check_target(self, computed, step)
        # f_j comes from the newest j + 1 features alone, so older ones cannot matter; their absence bounds the order
        recent = computed[-self.history :]
        factors = backward_factors(recent, self.first_difference)
        ahead = step - recent[-1]
        return weighted_factors(factors, [ahead**power / factorial(power) for power in range(len(factors))])
