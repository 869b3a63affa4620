"""Complex exponentials in time, fitted to the history while the trajectory runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import isfinite
from typing import ClassVar

from ..checks import check_choice, check_number, check_whole
from ..errors import TrajectoryError
from .base import Coefficients, Grams, check_target
from .exponentials import Exponents, bounded, exponential_row, fit_exponents, points_of
from .newton import Newton


@dataclass(frozen=True)
class Prony:
    """Each site as a sum of one or two complex exponentials of time, fitted to its last computed features.

    This is Prony's method, and dynamic mode decomposition of rank `order` on a few snapshots (Schmid, *Dynamic mode
    decomposition of numerical and experimental data*, 2010; for feature caching hicache-plus-plus, hicache_pp/dmd.py):
    fit the linear recurrence of `order` that predicts each of the last `history` features best from those before it,
    in least squares, and run it forward from the newest `order` features to the predicted step. The fit depends on the
    features through their inner products alone, so the predictor asks for one Gram matrix a site, and gives a row of
    scalars like any other. See `fit_exponents` for the sum that is minimised, at even and at uneven gaps.

    What keeps it tame, in this order:

    1. with fewer than order + 1 computed features there is nothing to fit: order 2 follows the straight line through
       the newest two, order 1 reuses;
    2. a fit that the gaps cannot tell (a root that is negative, turns by more than a third of a circle in the largest
       gap, or decays within a gap) is not used: the order is lowered by one, order 0 reuses;
    3. `ridge`, relative to the regressors' own sizes, pulls order 2 to the straight line and order 1 to reuse, so that
       directions in which the features say nothing stay there;
    4. no exponential grows by more than `growth` between the newest computed step and the predicted one, nor in the
       last gap: a faster exponent is slowed down to that. So no scalar is larger than `growth` times 2.5 (1 + ahead /
       gap), 2.5 being the most that an oscillation of rule 2 can add to the straight line's scalars.

    All samples of a batch are one feature here: their inner products are summed.

    Raises MethodError when `order` is not 1 or 2, `history` not a whole number above `order`, `ridge` not a finite
    number above 0, or `growth` not one of at least 1.
    """

    name: ClassVar[str] = "prony"
    edges: ClassVar[tuple[float, ...]] = ()
    per_site: ClassVar[bool] = True
    needs_gram: ClassVar[bool] = True

    order: int = 2
    history: int = 4
    ridge: float = 1e-8
    growth: float = 2.0

    def __post_init__(self) -> None:
        check_whole("Prony", "order", self.order, least=1, advice="order=1 is one exponential, 2 are two or a pair.")
        check_choice("Prony", "order", self.order, (1, 2))
        check_whole(
            "Prony",
            "history",
            self.history,
            least=self.order + 1,
            advice="A recurrence of some order is fitted to that many features and at least one more.",
        )
        check_number("Prony", "ridge", self.ridge, above=0, advice="1e-8 only settles what the features leave open.")
        check_number("Prony", "growth", self.growth, least=1, advice="2.0 lets no exponential more than double.")

    def table(self, computed: Sequence[int], step: int, grams: Grams = ()) -> Coefficients:
        """Return one row for each of `grams`, of one band.

        `grams` has for each site the inner products of its newest min(history, len(computed)) features or more, newest
        first.

        Raises TrajectoryError when nothing was computed before `step`, `computed` is not ascending, or `grams` are
        missing, too small, or not finite.
        """
        check_target(self, computed, step)
        newest_first = tuple(reversed(computed[-self.history :]))
        _check_grams(self, grams, len(newest_first))
        return tuple((self._row(newest_first, step, gram),) for gram in grams)

    def _row(self, times: tuple[int, ...], step: int, gram: tuple[tuple[float, ...], ...]) -> tuple[float, ...]:
        count = len(times)
        if count <= self.order:
            return Newton(self.order - 1).coefficients(times[::-1], step)
        exponents = _fit(times, tuple(row[:count] for row in gram[:count]), self.order, self.ridge)
        if not exponents:
            return (1.0,)
        ahead, gap = step - times[0], times[0] - times[1]
        return exponential_row(bounded(exponents, max(ahead, gap), self.growth), ahead, gap)


@lru_cache(maxsize=1024)
def _fit(times: tuple[int, ...], gram: tuple[tuple[float, ...], ...], order: int, ridge: float) -> Exponents:
    """Return the exponents of the highest order up to `order` that can be used, () for none."""
    if all(gram[i][i] == 0 for i in range(len(gram))):
        return ()
    points = points_of(gram)
    for lower in range(order, 0, -1):
        exponents = fit_exponents(points, times, lower, ridge)
        if exponents is not None:
            return exponents
    return ()


def _check_grams(prony: Prony, grams: Grams, count: int) -> None:
    if not grams:
        raise TrajectoryError(
            "Prony fits exponentials to the inner products of the kept features, and got none.\n"
            f"  where: {prony!r}\n"
            "  Pass table(computed, step, grams), one Gram matrix for each site, as a session does."
        )
    for site, gram in enumerate(grams):
        if len(gram) < count or any(len(row) < count for row in gram):
            raise TrajectoryError(
                f"The Gram matrix of site {site} is smaller than the {count} features it stands for.\n"
                f"  where: {prony!r}\n"
                "  Give the inner products of all features that are kept, newest first."
            )
        if not all(isfinite(value) for row in gram for value in row):
            raise TrajectoryError(
                f"The features kept at site {site} have inner products that are not finite.\n"
                f"  where: {prony!r}\n"
                "  They hold NaN or inf: check dtype and weights, or turn check_finite on to see at which step."
            )
