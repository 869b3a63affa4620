"""Scalars refined end to end: against the final result, not against features.

Between two computed steps a prediction is written as H_0 + a L_1(i) + b L_2(i): the newest feature, and Newton's linear
and quadratic terms at their true positions. For every gap the factors a and b are moved by Gauss-Newton so that the
*final* result comes nearer to the uncached one. Nothing but the sampling loop itself is needed: each factor's effect
is measured by one run with that factor changed a little. That is two factors a gap, not K scalars a step: few enough
for one run each, and few enough not to fit noise.

Half of the calibration set says where to go, the other half how far: a step is taken only where it lowers the error of
the half that had no say in its direction. Each sample's error counts as a share of what it was at the start, so that
samples with large errors, as those of a large guidance weight are, do not decide for all.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod

import torch
from torch import Tensor

from fouriercache.calibration.loop import Answers, Loop
from fouriercache.predictors import Calibrated, Coefficients

_CHANGE = 0.1
"""How much a factor is changed to see its effect; 1 is the whole term."""

_LENGTHS = (1.0, 0.5, 0.25)
"""Shares of the Gauss-Newton step that are tried."""


def refine(
    loop: Loop,
    table: tuple[int, ...],
    start: Calibrated,
    reference: Tensor,
    *,
    rounds: int,
    ridge: float = 1e-3,
    on_run: Callable[[], None] = lambda: None,
) -> Calibrated:
    """Return better scalars than `start`, or `start` itself.

    Args:
        loop: runs the calibration set with predictions of `start`'s form.
        reference: float32 [n, ...], the uncached result; n at least 2.
        rounds: how many Gauss-Newton steps; each costs `count_runs` runs.
        ridge: keeps factors near where they are, as a share of the mean squared effect of one.
        on_run: told of each run.
    """
    terms = terms_of(table, loop.num_steps, start.history)
    factors = torch.zeros(len(terms), dtype=torch.float64)

    def run(values: Tensor) -> Tensor:
        on_run()
        return loop.run(table, answers=_answers(start, terms, values))

    result = run(factors)
    scale = _error_norms(result, reference).clamp_min(1e-6 * _norms(reference))
    for _ in range(rounds if terms else 0):
        step = _gauss_newton_step(run, factors, result, reference, scale, ridge)
        tried = [(factors + length * step, run(factors + length * step)) for length in _LENGTHS]
        best, reached = min(tried, key=lambda one: _judged_error(one[1], reference, scale))
        if _judged_error(reached, reference, scale) >= _judged_error(result, reference, scale):
            break
        factors, result = best, reached
    if not factors.any():
        return start
    answers = _answers(start, terms, factors)
    done = [tuple(step for step in table if step < at) for at in range(loop.num_steps)]
    rows = tuple(answers(done[step], step) for step in range(loop.num_steps) if step not in table)
    return Calibrated(table, rows, start.edges)


def count_runs(table: tuple[int, ...], num_steps: int, history: int, rounds: int) -> int:
    """Return how many runs `refine` makes at most."""
    return 1 + rounds * (len(terms_of(table, num_steps, history)) + len(_LENGTHS))


_Term = tuple[int, int]
"""A gap, by the computed step before it, and the degree of a term in it: 1 or 2."""


def terms_of(table: tuple[int, ...], num_steps: int, history: int) -> list[_Term]:
    """Return the terms whose factors can be refined: of gaps that leave steps out, as far as features allow."""
    ends = (*table[1:], num_steps)
    return [
        (last, degree)
        for number, (last, end) in enumerate(zip(table, ends, strict=True))
        if end > last + 1
        for degree in (1, 2)
        if degree < min(history, number + 1)
    ]


def term_scalars(computed: Sequence[int], step: int, degree: int) -> tuple[float, ...]:
    """Return Newton's term of a degree as scalars of the kept features, the newest first.

    That is (i - s_0) ... (i - s_{d-1}) times the divided difference of H over s_0 ... s_d, whose scalar for s_k is
    1 / prod_{m != k} (s_k - s_m).
    """
    known = [float(done) for done in reversed(computed)][: degree + 1]
    height = prod(step - at for at in known[:degree])
    return tuple(height / prod(own - other for other in known if other != own) for own in known)


def _answers(start: Calibrated, terms: Sequence[_Term], factors: Tensor) -> Answers:
    moved = dict(zip(terms, factors.tolist(), strict=True))

    def answers(computed: Sequence[int], step: int) -> Coefficients:
        added = [0.0] * start.history
        for degree in (1, 2):
            factor = moved.get((computed[-1], degree), 0.0)
            if factor:
                for age, scalar in enumerate(term_scalars(computed, step, degree)):
                    added[age] += factor * scalar
        return tuple(
            tuple(tuple(own + more for own, more in zip(row, added, strict=False)) for row in site)
            for site in start.table(computed, step)
        )

    return answers


def _gauss_newton_step(
    run: Callable[[Tensor], Tensor], factors: Tensor, result: Tensor, reference: Tensor, scale: Tensor, ridge: float
) -> Tensor:
    """The factors' change that takes the first half's result nearest to its reference, were the loop linear."""
    half = slice(0, None, 2)

    def scaled(value: Tensor) -> Tensor:
        rows: Tensor = value[half].double().flatten(1) / scale[half, None]
        return rows.flatten()

    effects = []
    for index in range(len(factors)):
        changed = factors.clone()
        changed[index] += _CHANGE
        effects.append((scaled(run(changed)) - scaled(result)) / _CHANGE)
    jacobian = torch.stack(effects)
    normal = jacobian @ jacobian.T
    normal += ridge * normal.diagonal().mean() * torch.eye(len(factors), dtype=torch.float64)
    found: Tensor = torch.linalg.solve(normal, jacobian @ (scaled(reference) - scaled(result)))
    return found


def _judged_error(result: Tensor, reference: Tensor, scale: Tensor) -> float:
    """The error of the half that the direction does not know, as a share of that at the start."""
    return float((_error_norms(result, reference) / scale)[1::2].mean())


def _error_norms(result: Tensor, reference: Tensor) -> Tensor:
    return _norms(result.double() - reference.double())


def _norms(value: Tensor) -> Tensor:
    found: Tensor = value.double().flatten(1).norm(dim=1)
    return found
