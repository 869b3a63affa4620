"""Backward differences of computed features, as TaylorSeer takes them."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise, zip_longest


def backward_factors(computed: Sequence[int], first_difference: int) -> list[list[float]]:
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


def weighted_factors(factors: Sequence[Sequence[float]], weights: Sequence[float]) -> tuple[float, ...]:
    """Return the scalars of `sum_j weights[j] * f_j`, the newest feature's first; f_j has j + 1 scalars."""
    return tuple(
        sum(weights[power] * factors[power][age] for power in range(age, len(factors))) for age in range(len(factors))
    )
