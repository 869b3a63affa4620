"""From how far the indicator moved to how far the features will have moved."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from ..checks import check_choice, check_number
from ..errors import MethodError, NegativeChangeWarning, TrajectoryError


class Rescaled(NamedTuple):
    """A rescaled distance, and whether the distance or the result had to be moved into its range."""

    value: float
    is_clamped: bool


@dataclass(frozen=True)
class Polynomial:
    """A polynomial in the distance, the highest power first: the order of `numpy.poly1d`.

    TeaCache fits one for each model: least squares of degree 4, from the change of the indicator to the change of the
    model's output. No change is less than none, so a negative result counts as 0, and the step's `Decision` says so.
    The published code adds it up; far from what was fitted, for another model, say, it then reuses to the end.

    `low` and `high` are the distances that it was fitted between; published coefficients come without, and then every
    distance is taken. A fit tells nothing outside its range, so with `outside="refuse"` a distance there is an error,
    and with `outside="clamp"` it counts as the range's nearest end, and the step's `Decision` says so.

    `coefficients` is any sequence of numbers and kept as a tuple of floats. Raises MethodError when it is empty, a
    number is not finite, or the range is none.
    """

    coefficients: tuple[float, ...]
    low: float | None = None
    high: float | None = None
    outside: Literal["refuse", "clamp"] = "refuse"

    def __post_init__(self) -> None:
        object.__setattr__(self, "coefficients", _checked(self.coefficients))
        ends = "A range goes from the smallest to the largest distance of the fit: low=0.01, high=0.3."
        for field, end in (("low", self.low), ("high", self.high)):
            if end is not None:
                check_number("Polynomial", field, end, advice=ends)
        if self.low is not None and self.high is not None and self.low > self.high:
            raise MethodError(
                f"Polynomial has a range that ends before it begins.\n"
                f"  where: Polynomial(low={self.low}, high={self.high})\n"
                f"  {ends}"
            )
        check_choice("Polynomial", "outside", self.outside, ("refuse", "clamp"))

    def rescale(self, distance: float) -> Rescaled:
        """Return the polynomial's value, 0 if it is negative.

        Warns with NegativeChangeWarning when it is. Raises TrajectoryError when `distance` is outside the fitted range
        and `outside` is "refuse".
        """
        inside = max(distance, self.low) if self.low is not None else distance
        inside = min(inside, self.high) if self.high is not None else inside
        if inside != distance and self.outside == "refuse":
            raise TrajectoryError(
                f"A distance of {distance} is outside the range that the polynomial was fitted on, "
                f"{self.low} to {self.high}.\n"
                f"  where: {self!r}\n"
                '  Calibrate on trajectories like this one, or pass outside="clamp" to take the nearest end instead.'
            )
        value = 0.0
        for coefficient in self.coefficients:
            value = value * inside + coefficient
        if value < 0:
            warnings.warn(self._below_zero(), NegativeChangeWarning, stacklevel=2)
            return Rescaled(0.0, is_clamped=True)
        return Rescaled(value, inside != distance)

    def _below_zero(self) -> str:
        """The same text for every step, so that Python shows it once."""
        return (
            "The polynomial gives a change below 0, which counts as none: it was fitted for another model, or for\n"
            "other distances.\n"
            f"  where: {self!r}\n"
            "  Name the coefficients of this very model, or fit them with fouriercache.calibrate. In\n"
            "  fast.report.decisions, is_clamped says at which steps it was."
        )


def _checked(coefficients: object) -> tuple[float, ...]:
    advice = "List the coefficients, the highest power first: Polynomial((2.0, 0.5)) is 2 d + 0.5."
    if not isinstance(coefficients, Sequence) or isinstance(coefficients, str | bytes) or not coefficients:
        raise MethodError(
            f"Polynomial needs a list of coefficients, got {coefficients!r} of type {type(coefficients).__name__}.\n"
            f"  where: Polynomial({coefficients!r})\n"
            f"  {advice}"
        )
    for index, coefficient in enumerate(coefficients):
        check_number("Polynomial", f"coefficients[{index}]", coefficient, advice=advice)
    return tuple(map(float, coefficients))
