"""Backward differences of computed features, as TaylorSeer takes them, and series over them."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from itertools import pairwise, zip_longest
from typing import ClassVar

from ..checks import check_whole
from .base import ScalarPredictor, check_target


def _backward_factors(computed: Sequence[int], first_difference: int) -> list[list[float]]:
    """Return the factors f_0, f_1, ... as scalars of the features of the `computed` steps, newest first.

    At a computed step s, d steps after the computed step before it, the factors are updated with the new feature F, the
    second line as long as there is an old f_j (TaylorSeer-DiT, taylor_utils/__init__.py)::

        f_0     = F
        f_{j+1} = (f_j - old f_j) / d

    All orders divide by this last gap d, so with uneven gaps f_2 and higher are not divided differences; that is how it
    is published. Differences are taken only at computed steps >= `first_difference`.

    `computed` is ascending and not empty; f_j mixes the newest j + 1 features, so the caller bounds the order by the
    steps it gives. The scalars of one feature have the same sign in every factor: nothing cancels between factors.
    """
    factors: list[list[float]] = [[1.0]]
    for before, now in pairwise(computed):
        updated: list[list[float]] = [[1.0]]
        if now >= first_difference:
            for old in factors:
                # the feature computed now moves every older one back by a place
                pairs = zip_longest(updated[-1], [0.0, *old], fillvalue=0.0)
                updated.append([(new - kept) / (now - before) for new, kept in pairs])
        factors = updated
    return factors


class DifferenceSeries(ScalarPredictor):
    """Base of series `sum_j w_j(t - s) * f_j` over the factors of `_backward_factors`; s is the last computed step.

    A subclass has the fields `order` and `first_difference`, and says the weights.
    """

    name: ClassVar[str]
    order: int
    first_difference: int

    @property
    def history(self) -> int:
        """`order + 1` features: f_j mixes the newest j + 1."""
        return self.order + 1

    @abstractmethod
    def weights(self, ahead: int, count: int) -> list[float]:
        """Return w_0, ..., w_{count - 1} at `ahead` steps after the last computed one."""

    def coefficients(self, computed: Sequence[int], step: int) -> tuple[float, ...]:
        """Return the scalars of the published recursion, one more than the order that is available.

        The recursion runs on the scalars by which a factor mixes the features. Those of one feature have the same
        sign in every factor, so nothing cancels between factors.

        Raises TrajectoryError when nothing was computed before `step`, or `computed` is not ascending.
        """
        check_target(self, computed, step)
        # f_j comes from the newest j + 1 features alone, so older ones cannot matter; their absence bounds the order
        recent = computed[-self.history :]
        factors = _backward_factors(recent, self.first_difference)
        weights = self.weights(step - recent[-1], len(factors))
        return tuple(
            sum(weights[power] * factors[power][age] for power in range(age, len(factors)))
            for age in range(len(factors))
        )

    def check_differences(self, advice: str) -> None:
        """Raise MethodError when `order` or `first_difference` is not a whole number of at least 0."""
        owner = type(self).__name__
        check_whole(owner, "order", self.order, least=0, advice=advice)
        check_whole(
            owner,
            "first_difference",
            self.first_difference,
            least=0,
            advice="It is the first step at which differences may be taken; 0 sets no limit.",
        )
