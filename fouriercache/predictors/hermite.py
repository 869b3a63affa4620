"""Hermite polynomials in the place of a Taylor series' powers."""

from __future__ import annotations

from dataclasses import dataclass
from math import factorial
from typing import ClassVar

from ..checks import check_number
from .differences import DifferenceSeries


@dataclass(frozen=True)
class Hermite(DifferenceSeries):
    """TaylorSeer's factors on scaled Hermite polynomials: HiCache (arXiv:2508.16984), and FreqCa's high band.

    The factors f_j are those of `Taylor`, and x^j becomes sigma^j H_j(sigma x), H_j the physicists' polynomials
    H_0 = 1, H_1(y) = 2y, H_{j+1}(y) = 2y H_j(y) - 2j H_{j-1}(y)::

        F(t) = sum_j f_j * sigma**j * H_j(sigma * (t - s)) / j!

    This is `hermite_formula` of FreqCa, flux/src/flux/modules/cache_functions/cache_utils.py, where sigma is 0.71;
    HiCache has 0.5. A sigma below 1/sqrt(2) damps the slope by the factor 2 sigma**2, so sigma = 0.5 goes half of
    Taylor's way. H_2 is not 0 at 0: from order 2 on, the series does not pass through the newest feature.

    Steps count up here, so x = t - s is positive and a linear feature is followed forwards. Published code that counts
    down has both x and the gap d negative, which is the same; taking only one of them negative (x = -k with positive
    gaps, as in HiCache's paper) predicts backwards.

    Raises MethodError when `order` or `first_difference` is not a whole number of at least 0, or `sigma` is not a
    finite number above 0.
    """

    name: ClassVar[str] = "hermite"

    order: int
    sigma: float = 0.5
    first_difference: int = 0

    def __post_init__(self) -> None:
        self.check_differences("order=0 reuses, 2 is the published order.")
        check_number(
            "Hermite", "sigma", self.sigma, above=0, advice="HiCache has 0.5, FreqCa 0.71; 0.7071 keeps the slope."
        )

    def weights(self, ahead: int, count: int) -> list[float]:
        """Return sigma**j * H_j(sigma * ahead) / j!."""
        values = _hermite_values(self.sigma * ahead, count)
        return [self.sigma**power * value / factorial(power) for power, value in enumerate(values)]


def _hermite_values(at: float, count: int) -> list[float]:
    """Return H_0(at), ..., H_{count - 1}(at), physicists' convention, by the three-term recurrence."""
    values = [1.0, 2 * at]
    for degree in range(1, count - 1):
        values.append(2 * at * values[degree] - 2 * degree * values[degree - 1])
    return values[:count]
