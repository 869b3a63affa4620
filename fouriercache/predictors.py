"""What stands in for a value at a step that is not computed: one scalar for each computed feature that is kept.

Every predictor here is linear in the history: prediction = sum_k c_k * H_k, H_0 the newest computed feature, H_1 the
one before it, and so on. The scalars depend only on which steps were computed and which step is predicted, never on
the features, so a predictor is a pure function and one graph serves them all.

A new predictor is one frozen dataclass here that has the members of `Predictor`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise, zip_longest
from math import factorial
from typing import ClassVar, Protocol, runtime_checkable

from .checks import check_whole
from .errors import TrajectoryError


@runtime_checkable
class Predictor(Protocol):
    """Turns step indices into the scalars of a linear prediction."""

    @property
    def name(self) -> str:
        """The predictor's kind in one word, for tables and manifests."""

    @property
    def history(self) -> int:
        """K, the number of computed features it reads at most."""

    def coefficients(self, computed: Sequence[int], step: int) -> tuple[float, ...]:
        """Return at most K scalars c_k, the one for the newest computed feature first.

        `computed` holds all steps computed so far in this trajectory, ascending, at least one; `step` is predicted.
        Features older than the scalars returned do not enter the prediction.
        """


@dataclass(frozen=True)
class Reuse:
    """The newest computed feature as it is: FORA and every method that only reuses."""

    name: ClassVar[str] = "reuse"
    history: ClassVar[int] = 1

    def coefficients(self, computed: Sequence[int], step: int) -> tuple[float, ...]:
        """Return (1.0,). Raises TrajectoryError when nothing was computed before `step`."""
        _check_target(self, computed, step)
        return (1.0,)


@dataclass(frozen=True)
class Taylor:
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
        _check_target(self, computed, step)
        # f_j comes from the newest j + 1 features alone, so older ones cannot matter; their absence bounds the order
        recent = computed[-self.history :]
        factors: list[list[float]] = [[1.0]]
        for before, now in pairwise(recent):
            updated: list[list[float]] = [[1.0]]
            if now >= self.first_difference:
                for old in factors:
                    # the feature computed now moves every older one back by a place
                    pairs = zip_longest(updated[-1], [0.0, *old], fillvalue=0.0)
                    updated.append([(new - kept) / (now - before) for new, kept in pairs])
            factors = updated
        ahead = step - recent[-1]
        weights = [ahead**power / factorial(power) for power in range(len(factors))]
        return tuple(
            sum(weights[power] * factors[power][age] for power in range(age, len(factors)))
            for age in range(len(factors))
        )


def _check_target(predictor: Predictor, computed: Sequence[int], step: int) -> None:
    if len(computed) == 0:
        raise TrajectoryError(
            "Nothing can be predicted before the first step is computed.\n"
            f"  where: {predictor!r}, asked for step {step}\n"
            "  Compute step 0 of every trajectory."
        )
    recent = computed[-predictor.history - 1 :]
    if any(after <= before for before, after in pairwise(recent)) or step < recent[-1]:
        raise TrajectoryError(
            "A prediction goes forward from computed steps in ascending order.\n"
            f"  where: {predictor!r}, asked for step {step} after the computed steps {tuple(computed)}\n"
            "  Begin a new trajectory when the steps start again."
        )
