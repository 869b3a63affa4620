"""Which steps to compute: dynamic programming over the errors of gaps between them.

The errors come from the uncached run alone. Let v_i be the denoiser's output at step i and let a gap lie between the
computed step s and the next one, n. The predictor would give step i of the gap

    sum_k c_k(i) v_{s_k},   so its error is   r_i = v_i - sum_k c_k(i) v_{s_k},

s_0 = s and s_k the computed steps before it: a fixed combination of the v's, whose inner products are all in the Gram
matrix G of the v's. With w_i the squared change of the final result for a unit squared change of output i, a gap costs

    | sum_{i in gap} sqrt(w_i) r_i |^2,

for errors within a gap have the same cause and the same direction, so they add as vectors; errors of different gaps are
taken to be independent, so their squares add. The cheapest table of M steps is then found exactly. That is a start for
`search`, not an answer: a predictor acts on features inside the model, and errors of one gap change the next.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from fouriercache.predictors import Predictor

Array = NDArray[np.float64]
State = tuple[int, ...]
"""The last computed steps, oldest first: at most as many as the predictor reads."""

_MOST_GAPS = 400_000
"""Gaps, told apart by the computed steps before them, that are costed; a second or two for 100 000."""


def find_table(gram: Array, weights: Array, predictor: Predictor, computed: int) -> tuple[int, ...]:
    """Return the cheapest table of `computed` steps, the first of them 0.

    The cost of a gap depends on as many computed steps before it as the predictor reads; on fewer when there would be
    too many combinations, the predictor then answers as if there were no earlier ones.

    Args:
        gram: float64 [T, T], inner products of the outputs.
        weights: float64 [T], sensitivity of the result to each output.
    """
    num_steps = len(gram)
    longest = min(num_steps, 3 * -(-num_steps // computed))  # the first gap of a good table is up to twice the mean
    depth = _affordable_depth(num_steps, longest, predictor.history)

    def cost(state: State) -> Array:
        return gap_costs(gram, weights, predictor, state, longest)

    return cheapest_table(cost, num_steps, computed, depth, longest)


def gap_costs(gram: Array, weights: Array, predictor: Predictor, state: State, longest: int) -> Array:
    """Return the costs of the gaps after `state` that leave out 0, 1, 2, ... steps, at most `longest - 1`.

    Of a predictor with several sites or frequency bands, the first site's lowest band stands for all: it has most of
    the energy.
    """
    last = state[-1]
    skipped = range(last + 1, min(last + longest, len(gram)))
    errors = np.zeros((len(skipped) + 1, len(gram)))  # row g: the summed errors of the first g skipped steps
    for row, step in enumerate(skipped, start=1):
        scalars = predictor.table(state, step)[0][0]
        errors[row] = errors[row - 1]
        errors[row, step] += weights[step] ** 0.5
        for scalar, source in zip(scalars, reversed(state), strict=False):
            errors[row, source] -= weights[step] ** 0.5 * scalar
    costs: Array = np.maximum(((errors @ gram) * errors).sum(1), 0.0)
    return costs


def cheapest_table(
    costs: Callable[[State], Sequence[float] | Array], num_steps: int, computed: int, depth: int, longest: int
) -> tuple[int, ...]:
    """Return the table of `computed` steps, the first 0, whose gaps cost least in all.

    Args:
        costs: the costs of leaving out 0, 1, 2, ... steps after a state.
        depth: how many of the last computed steps a state has.
        longest: the longest distance between computed steps, and from the last to the end; ignored where nothing
            else is left.
    """
    known: dict[State, Sequence[float] | Array] = {}

    def cost(state: State, skipped: int) -> float:
        if state not in known:
            known[state] = costs(state)
        return float(known[state][skipped]) if skipped < len(known[state]) else float("inf")

    layer: dict[State, tuple[float, tuple[int, ...]]] = {(0,): (0.0, (0,))}
    for left in range(computed - 1, 0, -1):
        following: dict[State, tuple[float, tuple[int, ...]]] = {}
        for state, (total, table) in layer.items():
            for step in range(state[-1] + 1, min(state[-1] + longest, num_steps - left) + 1):
                reached = (*state, step)[-depth:]
                new = total + cost(state, step - state[-1] - 1)
                if reached not in following or new < following[reached][0]:
                    following[reached] = (new, (*table, step))
        layer = following
    ends = [(total + cost(state, num_steps - 1 - state[-1]), table) for state, (total, table) in layer.items()]
    return min(ends)[1]


def uniform_table(num_steps: int, computed: int) -> tuple[int, ...]:
    """Return `computed` steps of `num_steps`, spaced as evenly as whole numbers allow, the first 0."""
    return tuple(round(index * num_steps / computed) for index in range(computed))


def _affordable_depth(num_steps: int, longest: int, history: int) -> int:
    depth = 1
    while depth < min(history, 3) and num_steps * longest ** (depth + 1) <= _MOST_GAPS:
        depth += 1
    return depth
