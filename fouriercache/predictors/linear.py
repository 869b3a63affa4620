"""Small linear systems in plain floats: predictors know no torch."""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt


def solve(matrix: Sequence[Sequence[float]], right: Sequence[float]) -> list[float]:
    """Return x of `matrix` x = `right` by Gaussian elimination with partial pivoting; n x n, float64.

    Raises ZeroDivisionError when the matrix is singular to the last bit. Callers add a ridge, so that it is not.
    """
    size = len(right)
    rows = [[*row, value] for row, value in zip(matrix, right, strict=True)]
    for column in range(size):
        pivot = max(range(column, size), key=lambda row: abs(rows[row][column]))
        rows[column], rows[pivot] = rows[pivot], rows[column]
        for row in range(column + 1, size):
            factor = rows[row][column] / rows[column][column]
            for k in range(column, size + 1):
                rows[row][k] -= factor * rows[column][k]
    found = [0.0] * size
    for row in reversed(range(size)):
        known = sum(rows[row][k] * found[k] for k in range(row + 1, size))
        found[row] = (rows[row][size] - known) / rows[row][row]
    return found


def least_squares(columns: Sequence[Sequence[float]], right: Sequence[float]) -> list[float]:
    """Return x that minimises |sum_k x_k columns[k] - right|; each column as long as `right`, float64.

    Gram and Schmidt's method, modified, with `right` as a last column: backward stable (Bjoerck 1967), where normal
    equations square the condition number. A column that depends on those before it gets 0.
    """
    basis: list[list[float]] = []
    triangle: list[list[float]] = []
    for column in [*columns, right]:
        rest, shares = list(column), []
        for direction in basis:
            share = sum(a * b for a, b in zip(direction, rest, strict=True))
            rest = [value - share * part for value, part in zip(rest, direction, strict=True)]
            shares.append(share)
        length = sqrt(sum(value**2 for value in rest))
        basis.append([value / length for value in rest] if length else rest)
        triangle.append([*shares, length])
    found = [0.0] * len(columns)
    for k in reversed(range(len(columns))):
        known = sum(triangle[j][k] * found[j] for j in range(k + 1, len(columns)))
        found[k] = (triangle[-1][k] - known) / triangle[k][k] if triangle[k][k] else 0.0
    return found
