"""Complex exponentials in time, fitted to the history while the trajectory runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from math import isfinite
from typing import ClassVar

from ..checks import check_choice, check_number, check_whole
from ..errors import TrajectoryError
from .base import Coefficients, Grams, check_target
from .exponential_fit import fit_exponents, points_of
from .exponentials import Exponents, Family, bounded
from .newton import Newton


@dataclass(frozen=True)
class Prony:
    """Each site as a constant and one or two complex exponentials of time, fitted to its last computed features.

    This is Prony's method, and dynamic mode decomposition of rank `order` on a few snapshots (Schmid, *Dynamic mode
    decomposition of numerical and experimental data*, 2010; for feature caching hicache-plus-plus, hicache_pp/dmd.py):
    fit the linear recurrence that predicts each of the last `history` features best from those before it, in least
    squares, and run it forward from the newest ones to the predicted step. The fit depends on the features through
    their inner products alone, so the predictor asks for one Gram matrix a site, and gives a row of scalars like any
    other. See `fit_exponents` for the sum that is minimised, at even and at uneven gaps.

    With `constant` the recurrence is that of the features' differences, and what it can follow reaches from a feature
    that settles down to the parabola (order 2) or straight line (order 1) of `Newton`; without, it is that of the
    features themselves, as published.

    What keeps it tame, in this order:

    1. with too few computed features there is nothing to fit, and the polynomial through as many of them as the
       recurrence reads is followed: `order`, and one more with the constant;
    2. a fit that the gaps cannot tell (a root that is negative, turns by more than a third of a circle in the largest
       gap, or decays within a gap) is not used: the order is lowered by one, order 0 reuses;
    3. `ridge`, relative to the size of what is combined, pulls the scalars to the polynomial's, so that what the
       features leave open stays there;
    4. no exponential grows by more than `growth` between the newest computed step and the predicted one, nor in a gap
       that the recurrence reads: a faster exponent is slowed down to that.

    All samples of a batch are one feature here: their inner products are summed.

    Raises MethodError when `order` is not 1 or 2, `history` not a whole number of at least order + 1 (+ 1 with the
    constant), `ridge` not a finite number above 0, `growth` not one of at least 1, or `constant` not a bool.
    """

    name: ClassVar[str] = "prony"
    edges: ClassVar[tuple[float, ...]] = ()
    per_site: ClassVar[bool] = True
    needs_gram: ClassVar[bool] = True

    order: int = 2
    history: int = 4
    ridge: float = 1e-8
    growth: float = 2.0
    constant: bool = True

    def __post_init__(self) -> None:
        check_whole("Prony", "order", self.order, least=1, advice="order=1 is one exponential, 2 are two or a pair.")
        check_choice("Prony", "order", self.order, (1, 2))
        check_choice("Prony", "constant", self.constant, (True, False))
        check_whole(
            "Prony",
            "history",
            self.history,
            least=self._family.known + 1,
            advice="A recurrence is fitted to the features it reads and at least one more.",
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

    @property
    def _family(self) -> Family:
        return Family(self.order, self.constant)

    def _row(self, times: tuple[int, ...], step: int, gram: tuple[tuple[float, ...], ...]) -> tuple[float, ...]:
        count, known = len(times), self._family.known
        if count <= known:
            return Newton(known - 1).coefficients(times[::-1], step)
        exponents = _fit(times, tuple(row[:count] for row in gram[:count]), self._family, self.ridge)
        if not exponents:
            return (1.0,)
        family = Family(len(exponents), self.constant)
        gaps = [newer - older for newer, older in pairwise(times[: family.known])]
        ahead = step - times[0]
        return family.row(bounded(exponents, max(ahead, *gaps, 1), self.growth), ahead, gaps)


@lru_cache(maxsize=1024)
def _fit(times: tuple[int, ...], gram: tuple[tuple[float, ...], ...], family: Family, ridge: float) -> Exponents:
    """Return the exponents of the highest order up to the family's that can be used, () for none."""
    if all(gram[i][i] == 0 for i in range(len(gram))):
        return ()
    points = points_of(gram)
    for order in range(family.order, 0, -1):
        exponents = fit_exponents(Family(order, family.has_constant), points, times, ridge)
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
