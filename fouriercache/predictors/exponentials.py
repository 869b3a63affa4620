"""Sums of one or two exponentials in time: their scalars, and their fit to points at any spacing. Plain floats.

A feature that is a sum of `order` exponentials of time obeys a recurrence: each value is a combination of the `order`
values before it, with scalars that depend on the exponents and the gaps alone. Order 1 has one real rate. Order 2 has
the two exponents `mean +- sqrt(bend)`: two real ones where bend > 0, a conjugate pair where bend < 0, and
e^(mean t) (a + b t) where bend = 0, so every straight line is of order 2 with mean = bend = 0.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from math import acos, acosh, cos, exp, inf, log, pi, sin, sinh, sqrt
from typing import TypeAlias

from .linear import least_squares

Exponents: TypeAlias = tuple[float, ...]
"""(rate,) or (mean, bend), per step."""

_Points: TypeAlias = Sequence[Sequence[float]]
"""Features as coordinates, newest first."""

_WIDEST_TURN = 2 * pi / 3
"""Angle that an oscillation may turn in the largest gap: with fewer than three samples a turn it is not identified."""

_FASTEST = 20.0
"""Largest exponent times gap that is looked for; e^-20 is gone within a gap."""


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


def exponential_row(exponents: Exponents, ahead: float, gap: float) -> tuple[float, ...]:
    """Return the scalars of the newest `order` values, `gap` apart, for the value `ahead` after the newest.

    With S(t) = sinh(sqrt(bend) t) / sqrt(bend), or sin(sqrt(-bend) t) / sqrt(-bend), the second order's are
    e^(mean ahead) S(ahead + gap) / S(gap) and -e^(mean (ahead + gap)) S(ahead) / S(gap): they carry both exponentials
    from the two known values exactly.
    """
    if len(exponents) == 1:
        return (exp(exponents[0] * ahead),)
    mean, bend = exponents
    between = _wave(bend, gap)
    return (
        exp(mean * ahead) * _wave(bend, ahead + gap) / between,
        -exp(mean * (ahead + gap)) * _wave(bend, ahead) / between,
    )


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


def fit_exponents(points: _Points, times: Sequence[int], order: int, ridge: float) -> Exponents | None:
    """Return the exponents whose recurrence predicts each point best from the `order` points before it, or None.

    `times` are the points' steps, newest first; there are at least order + 1. The sum over all i of
    |H_i - sum_j w_ij H_{i+1+j}|^2 is minimised, w_i the `exponential_row` for the gaps before H_i. At even gaps w is
    the same for all i, and this is Prony's linear least squares (de Prony 1795; Hildebrand, *Introduction to Numerical
    Analysis*, section 9.4). At uneven gaps it is the same sum with each gap's own w, minimised by damped Gauss-Newton
    steps from two starts, the straight line and an oscillation. `ridge`, relative to the sizes of the regressors, pulls
    order 2 towards a straight line and order 1 towards reuse.

    None when the best recurrence is not that of exponentials that the gaps can tell: it alternates in sign, or turns by
    more than `_WIDEST_TURN` in the largest gap, or decays within a gap.
    """
    gaps = [newer - older for newer, older in pairwise(times)]
    if all(gap == gaps[0] for gap in gaps):
        return _exponents_of(_fit_even(points, order, ridge), gaps[0])
    return _fit_uneven(points, gaps, order, ridge)


def _wave(bend: float, time: float) -> float:
    """Return S(time); 0 at time 0 with slope 1."""
    if bend == 0:
        return time
    rate = sqrt(abs(bend))
    return (sinh(rate * time) if bend > 0 else sin(rate * time)) / rate


def _residuals(points: _Points, rows: Sequence[Sequence[float]], gaps: Sequence[float], ridge: float) -> list[float]:
    """Return what each point differs by from its prediction, then the ridge's share, one list of floats."""
    found: list[float] = []
    root = sqrt(ridge)
    for i, row in enumerate(rows):
        before = points[i + 1 : i + 1 + len(row)]
        predicted = [sum(w * value for w, value in zip(row, axis, strict=True)) for axis in zip(*before, strict=True)]
        found += [value - guess for value, guess in zip(points[i], predicted, strict=True)]
        found.append(root * _length(before[0]) * (sum(row) - 1))  # order 1: away from reuse; 2: from the line's sum
        if len(row) == 2:
            difference = [a - b for a, b in zip(*before, strict=True)]
            found.append(root * _length(difference) * (row[1] + gaps[i] / gaps[i + 1]))
    return found


def _fit_even(points: _Points, order: int, ridge: float) -> list[float]:
    """Return the recurrence's scalars, the newest value's first: residuals are linear in them."""
    count = len(points) - order
    gaps = [1.0] * len(points)

    def residuals(row: Sequence[float]) -> list[float]:
        return _residuals(points, [row] * count, gaps, ridge)

    return _gauss_newton_step(residuals, [2.0, -1.0] if order == 2 else [1.0], 1.0, 0.0)


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


def _fit_uneven(points: _Points, gaps: Sequence[float], order: int, ridge: float) -> Exponents | None:
    unit = sum(gaps) / len(gaps)
    turn = (_WIDEST_TURN * unit / max(gaps)) ** 2

    def exponents(at: Sequence[float]) -> Exponents:
        return (at[0] / unit,) if order == 1 else (at[0] / unit, at[1] / unit**2)

    def is_inside(at: Sequence[float]) -> bool:
        return abs(at[0]) < _FASTEST and (order == 1 or -turn < at[1] < _FASTEST**2)

    def residuals(at: Sequence[float]) -> list[float]:
        behind = range(len(points) - order)
        rows = [exponential_row(exponents(at), gaps[i], gaps[i + 1] if order == 2 else 0.0) for i in behind]
        return _residuals(points, rows, gaps, ridge)

    starts = [[0.0]] if order == 1 else [[0.0, 0.0], [0.0, -turn / 2]]
    enough = 1e-28 * sum(map(_square, points))
    best = min(
        (_minimise(residuals, is_inside, start, enough) for start in starts), key=lambda at: _square(residuals(at))
    )
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
