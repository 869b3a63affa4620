"""The fit of exponentials to points in time, at even and at uneven gaps. Plain floats."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from math import acos, acosh, cos, exp, inf, log, pi, sqrt
from typing import TypeAlias

from .exponentials import Exponents, Family
from .linear import least_squares

_Points: TypeAlias = Sequence[Sequence[float]]
"""Features as coordinates, newest first."""

_WIDEST_TURN = 2 * pi / 3
"""Angle that an oscillation may turn in the largest gap: with fewer than three samples a turn it is not identified."""

_FASTEST = 5.0
"""Largest exponent times gap that is looked for; a mode that decays as fast is gone within a gap."""


def points_of(gram: Sequence[Sequence[float]]) -> list[list[float]]:
    """Return n points in n dimensions that have the inner products `gram`, n x n: its Cholesky factor, row by row.

    A pivot below rounding is taken for 0: the features then span fewer dimensions.
    """
    size = len(gram)
    noise = size * 2.0**-52 * max(gram[i][i] for i in range(size))
    rows = [[0.0] * size for _ in range(size)]
    for column in range(size):
        pivot = gram[column][column] - sum(value**2 for value in rows[column][:column])
        if pivot <= noise:
            continue
        rows[column][column] = sqrt(pivot)
        for row in range(column + 1, size):
            shared = sum(a * b for a, b in zip(rows[row][:column], rows[column][:column], strict=True))
            rows[row][column] = (gram[row][column] - shared) / rows[column][column]
    return rows


def fit_exponents(family: Family, points: _Points, times: Sequence[int], ridge: float) -> Exponents | None:
    """Return the exponents whose recurrence predicts each point best from those before it, or None.

    `times` are the points' steps, newest first; there are at least family.known + 1. The sum over all i of
    |H_i - sum_j w_ij H_{i+1+j}|^2 is minimised, w_i the `Family.row` for the gaps before H_i. At even gaps w is the
    same for all i, and this is Prony's linear least squares (de Prony 1795; Hildebrand, *Introduction to Numerical
    Analysis*, section 9.4), with the constant on the differences of the points. At uneven gaps it is the same sum
    with each gap's own w, minimised by damped Gauss-Newton steps from two starts, exponents 0 and an oscillation.
    `ridge`, relative to the size of what is combined, pulls the scalars to those of exponents 0.

    None when the best recurrence is not that of exponentials that the gaps can tell: it alternates in sign, or
    turns by more than `_WIDEST_TURN` in the largest gap, or decays within a gap.
    """
    gaps = [newer - older for newer, older in pairwise(times)]
    terms = _Terms(family, points, gaps, ridge)
    if all(gap == gaps[0] for gap in gaps):
        return _exponents_of(_fit_even(terms), gaps[0])
    return _fit_uneven(terms)


class _Terms:
    """The terms whose squares are summed, for the scalars of each point that is predicted from those before it."""

    def __init__(self, family: Family, points: _Points, gaps: Sequence[int], ridge: float) -> None:
        self.family, self.points, self.gaps = family, points, gaps
        self.count = len(points) - family.known
        centre = (0.0,) * family.order
        self._centres = [self.row(centre, i) for i in range(self.count)]
        before = [points[i + 1 : i + 3] for i in range(self.count)]
        sizes = [
            _length([a - b for a, b in zip(*pair, strict=True)]) if family.has_constant else _length(pair[0])
            for pair in before
        ]
        self._pulls = [sqrt(ridge) * size for size in sizes]

    def row(self, exponents: Exponents, i: int) -> tuple[float, ...]:
        return self.family.row(exponents, self.gaps[i], self.gaps[i + 1 : i + self.family.known])

    def of(self, rows: Sequence[tuple[float, ...]]) -> list[float]:
        """Return what each point differs by from its prediction, then the ridge's share."""
        found: list[float] = []
        for i, row in enumerate(rows):
            before = self.points[i + 1 : i + 1 + len(row)]
            guesses = (sum(w * value for w, value in zip(row, axis, strict=True)) for axis in zip(*before, strict=True))
            found += [value - guess for value, guess in zip(self.points[i], guesses, strict=True)]
            found += [self._pulls[i] * (w - centre) for w, centre in zip(row, self._centres[i], strict=True)]
        return found


def _fit_even(terms: _Terms) -> list[float]:
    """Return the scalars of the recurrence of the exponentials, the newest value's first: the terms are linear in them.

    With a constant it is the differences that obey it: H_0 - H_1 = a_1 (H_1 - H_2) + a_2 (H_2 - H_3).
    """

    def residuals(scalars: Sequence[float]) -> list[float]:
        row = tuple(scalars)
        if terms.family.has_constant:
            row = tuple(a - b for a, b in zip((*scalars, 0.0), (-1.0, *scalars), strict=True))
        return terms.of([row] * terms.count)

    return _gauss_newton_step(residuals, [2.0, -1.0] if terms.family.order == 2 else [1.0], 1.0, 0.0)


def _exponents_of(row: Sequence[float], gap: float) -> Exponents | None:
    """Return the exponents of a recurrence at an even gap; None if a root is not that of a slow enough exponential."""
    if len(row) == 1:
        return (log(row[0]) / gap,) if row[0] > exp(-_FASTEST) else None
    product = -row[1]  # of the roots of z^2 = row[0] z + row[1]
    if product <= exp(-2 * _FASTEST):
        return None
    half = row[0] / (2 * sqrt(product))
    if half < cos(_WIDEST_TURN):
        return None
    mean = log(product) / (2 * gap)
    return (mean, (acosh(half) / gap) ** 2) if half >= 1 else (mean, -((acos(half) / gap) ** 2))


def _fit_uneven(terms: _Terms) -> Exponents | None:
    gaps, order = terms.gaps, terms.family.order
    unit = sum(gaps) / len(gaps)
    turn = (_WIDEST_TURN * unit / max(gaps)) ** 2

    def exponents(at: Sequence[float]) -> Exponents:
        return (at[0] / unit,) if order == 1 else (at[0] / unit, at[1] / unit**2)

    def is_inside(at: Sequence[float]) -> bool:
        return abs(at[0]) < _FASTEST and (order == 1 or -turn < at[1] < _FASTEST**2)

    def residuals(at: Sequence[float]) -> list[float]:
        return terms.of([terms.row(exponents(at), i) for i in range(terms.count)])

    starts = [[0.0]] if order == 1 else [[0.0, 0.0], [0.0, -turn / 2]]
    enough = 1e-28 * sum(map(_square, terms.points))
    found = [_minimise(residuals, is_inside, start, enough) for start in starts]
    best = min(found, key=lambda at: _square(residuals(at)))
    at_border = order == 2 and (best[1] < -0.98 * turn or best[1] > 0.9 * _FASTEST**2)
    return None if at_border or abs(best[0]) > 0.9 * _FASTEST else exponents(best)


def _minimise(
    residuals: Callable[[Sequence[float]], list[float]],
    is_inside: Callable[[Sequence[float]], bool],
    start: list[float],
    enough: float,
) -> list[float]:
    """Return where the sum of squares is least inside, near `start`; a sum below `enough` is not made smaller.

    Levenberg and Marquardt's method: a step that does not help is tried again shorter.
    """
    at, damping = start, 1e-3
    value = _square(residuals(at))
    for _ in range(60):
        trial = _gauss_newton_step(residuals, at, 1e-5, damping)
        reached = _square(residuals(trial)) if is_inside(trial) else inf
        if reached < value:
            is_done = value - reached < 1e-9 * value or reached < enough
            at, value, damping = trial, reached, damping / 10
        else:
            is_done = damping > 1e8
            damping *= 10
        if is_done:
            break
    return at


def _gauss_newton_step(
    residuals: Callable[[Sequence[float]], list[float]], at: list[float], width: float, damping: float
) -> list[float]:
    """Return `at` moved to the least squares of the linearised residuals; slopes are central differences of `width`."""
    here = residuals(at)
    slopes = []
    for k in range(len(at)):
        ahead, behind = (residuals([x + sign * width * (i == k) for i, x in enumerate(at)]) for sign in (1, -1))
        slopes.append([(a - b) / (2 * width) for a, b in zip(ahead, behind, strict=True)])
    # damping as more residuals: it keeps a parameter where it is, in units of its own slope
    held = [[sqrt(damping) * _length(slope) * (i == k) for i in range(len(at))] for k, slope in enumerate(slopes)]
    columns = [[*slope, *rows] for slope, rows in zip(slopes, held, strict=True)]
    move = least_squares(columns, [*(-value for value in here), *[0.0] * len(at)])
    return [x + step for x, step in zip(at, move, strict=True)]


def _square(values: Sequence[float]) -> float:
    return sum(value**2 for value in values)


def _length(values: Sequence[float]) -> float:
    return sqrt(_square(values))
