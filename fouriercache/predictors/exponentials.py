"""Sums of one or two exponentials in time, with or without a constant, and their scalars. Plain floats.

A feature that is such a sum obeys a recurrence: each value is a combination of as many values before it as there are
exponentials, and one more for the constant, with scalars that depend on the exponents and the gaps alone. One
exponential has one real rate. Two have the exponents `mean +- sqrt(bend)`: two real ones where bend > 0, a conjugate
pair where bend < 0, and e^(mean t) (a + b t) where bend = 0. With all exponents 0, the sum is a straight line for two
exponentials, and with the constant a parabola: polynomials are the limits of slow exponentials.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import cos, cosh, exp, expm1, log, sin, sinh, sqrt
from typing import TypeAlias

import numpy as np

from .linear import solve

Exponents: TypeAlias = tuple[float, ...]
"""(rate,) or (mean, bend), per step."""

_NODES, _WEIGHTS = (values.tolist() for values in np.polynomial.legendre.leggauss(16))


def bounded(exponents: Exponents, within: float, growth: float) -> Exponents:
    """Return the exponents, made so small that no exponential grows by more than `growth` in a time `within` > 0."""
    most = log(growth) / within
    if len(exponents) == 1:
        return (min(exponents[0], most),)
    mean, bend = exponents
    if bend <= 0:
        return (min(mean, most), bend)
    faster, slower = min(mean + sqrt(bend), most), min(mean - sqrt(bend), most)
    return ((faster + slower) / 2, ((faster - slower) / 2) ** 2)


@dataclass(frozen=True)
class Family:
    """The sums of `order` exponentials, with a constant or without."""

    order: int
    has_constant: bool

    @property
    def known(self) -> int:
        """Values that fix such a sum, once its exponents are known."""
        return self.order + self.has_constant

    def row(self, exponents: Exponents, ahead: float, gaps: Sequence[float]) -> tuple[float, ...]:
        """Return the scalars of the newest `known` values for the value `ahead` after the newest.

        `gaps` are those between the `known` values, newest first. The scalars carry every sum of the family with
        these exponents from the known values exactly: they solve sum_k w_k f(t_k) = f(ahead) for a basis f.
        """
        places = [0.0]
        for gap in gaps:
            places.append(places[-1] - gap)
        if not self.has_constant:
            return _carried(exponents, ahead, places)
        # basis: 1, and the integrals from 0 of the exponentials, which are all 0 at the newest value
        target = _integrals(exponents, ahead)
        columns = [_integrals(exponents, place) for place in places[1:]]
        older = solve([list(line) for line in zip(*columns, strict=True)], target)
        return (1 - sum(older), *older)


def _carried(exponents: Exponents, ahead: float, places: Sequence[float]) -> tuple[float, ...]:
    """Return the scalars of one or two known values for sums without a constant, in closed form.

    With S(t) of `_wave`, those of two values a gap apart are e^(mean ahead) S(ahead + gap) / S(gap) and
    -e^(mean (ahead + gap)) S(ahead) / S(gap).
    """
    if len(exponents) == 1:
        return (exp(exponents[0] * ahead),)
    (mean, bend), gap = exponents, -places[1]
    between = _wave(bend, gap)
    return (
        exp(mean * ahead) * _wave(bend, ahead + gap) / between,
        -exp(mean * (ahead + gap)) * _wave(bend, ahead) / between,
    )


def _wave(bend: float, time: float) -> float:
    """Return S(time) = sinh(sqrt(bend) time) / sqrt(bend), or with sines where bend < 0; 0 at 0, of slope 1."""
    if bend == 0:
        return time
    rate = sqrt(abs(bend))
    return (sinh(rate * time) if bend > 0 else sin(rate * time)) / rate


def _integrals(exponents: Exponents, end: float) -> list[float]:
    """Return the integrals from 0 to `end` of a basis of the exponentials; 16 Gauss-Legendre nodes for two.

    The basis of two is e^(mean t) S'(t) and e^(mean t) S(t), S that of `_wave`: smooth where the two exponents meet.
    The quadrature is exact to rounding as long as an exponential grows or turns by less than e^10 or 10 radians.
    """
    if len(exponents) == 1:
        (rate,) = exponents
        return [end if rate == 0 else expm1(rate * end) / rate]
    mean, bend = exponents
    even, odd = 0.0, 0.0
    rate = sqrt(abs(bend))
    for node, weight in zip(_NODES, _WEIGHTS, strict=True):
        time = end * (1 + node) / 2
        share = weight * end / 2 * exp(mean * time)
        slope = cosh(rate * time) if bend > 0 else cos(rate * time)
        even += share * slope
        odd += share * _wave(bend, time)
    return [even, odd]
