"""A ridge regression on Chebyshev polynomials of time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import zip_longest
from typing import ClassVar

from ..checks import check_number, check_whole
from ..errors import TrajectoryError
from .base import ScalarPredictor, check_target
from .linear import solve
from .newton import Newton


@dataclass(frozen=True)
class Chebyshev(ScalarPredictor):
    """Each feature as a polynomial of time, fitted to all kept computed features: Spectrum (arXiv:2603.01623).

    Time is tau = 2 step / num_steps - 1, in [-1, 1), and phi(tau) = (T_0(tau), ..., T_degree(tau)). With Phi the rows
    phi(tau) of the computed steps and H their features, the published fit and prediction are::

        C    = (Phi^T Phi + ridge I)^-1 Phi^T H
        F(t) = phi(tau_t) C

    (Spectrum, src/utils/basis_utils.py: degree M = 4, ridge lam = 0.1.) H enters linearly, so the scalars of the
    features are the row phi(tau_t) (Phi^T Phi + ridge I)^-1 Phi^T, and no polynomial is ever fitted to a tensor.

    `weight` mixes in the straight line through the two newest features, as the code offers since publication (w there,
    and 0.5 to 1 is recommended): F(t) = weight * phi(tau_t) C + (1 - weight) * line(t).

    `history` is the number of newest computed features that are kept and fitted, all of them tensors in memory; the
    published code keeps all, so give it the number of computed steps. The ridge pulls towards 0, not towards the newest
    feature: with few computed steps the scalars sum to clearly less than 1, and the schedule must warm up.

    The published code maps steps by a fixed 50 and holds features and coefficients in bfloat16; here the map is by
    `num_steps`, which is the same at 50 steps, and the scalars are computed in float64.

    Raises MethodError when `num_steps`, `degree` or `history` is not a whole number of at least 1, 0 and 1, `ridge`
    is not a finite number above 0, or `weight` not one from 0 to 1.
    """

    name: ClassVar[str] = "chebyshev"
    preset: ClassVar[str] = "Spectrum"

    num_steps: int
    degree: int = 4
    ridge: float = 0.1
    history: int = 12
    weight: float = 1.0

    def __post_init__(self) -> None:
        check_whole("Chebyshev", "num_steps", self.num_steps, least=1, advice="It is the scheduler's number of steps.")
        check_whole("Chebyshev", "degree", self.degree, least=0, advice="The published degree is 4.")
        check_number(
            "Chebyshev",
            "ridge",
            self.ridge,
            above=0,
            advice="The published ridge is 0.1; without one, fewer steps than polynomials leave no unique fit.",
        )
        check_whole("Chebyshev", "history", self.history, least=1, advice="The published code keeps every feature.")
        check_number(
            "Chebyshev",
            "weight",
            self.weight,
            least=0,
            most=1,
            advice="weight=1 is the regression, 0 the straight line.",
        )

    def coefficients(self, computed: Sequence[int], step: int) -> tuple[float, ...]:
        """Return the regression's scalars, one for each kept computed step.

        Raises TrajectoryError when nothing was computed before `step`, `computed` is not ascending, or `step` is not
        below `num_steps`.
        """
        check_target(self, computed, step)
        if step >= self.num_steps:
            raise TrajectoryError(
                f"Step {step} is outside the {self.num_steps} steps whose times the polynomials are made for.\n"
                f"  where: {self!r}\n"
                "  Give Chebyshev(num_steps=) the number of steps the scheduler really takes."
            )
        newest_first = tuple(reversed(computed[-self.history :]))
        fitted = _regress(newest_first, step, self.num_steps, self.degree, self.ridge)
        line = Newton(order=1).coefficients(computed[-self.history :], step)
        return tuple(
            self.weight * scalar + (1 - self.weight) * local
            for scalar, local in zip_longest(fitted, line, fillvalue=0.0)
        )


@lru_cache(maxsize=1024)
def _regress(steps: tuple[int, ...], step: int, num_steps: int, degree: int, ridge: float) -> tuple[float, ...]:
    """Return phi(step) (Phi^T Phi + ridge I)^-1 Phi^T, one scalar for each of `steps`."""
    rows = [_polynomials(2 * known / num_steps - 1, degree) for known in steps]
    normal = [
        [sum(row[i] * row[j] for row in rows) + (ridge if i == j else 0.0) for j in range(degree + 1)]
        for i in range(degree + 1)
    ]
    weights = solve(normal, _polynomials(2 * step / num_steps - 1, degree))
    return tuple(sum(w * value for w, value in zip(weights, row, strict=True)) for row in rows)


def _polynomials(tau: float, degree: int) -> list[float]:
    """Return T_0(tau), ..., T_degree(tau) by the three-term recurrence."""
    values = [1.0, tau]
    for _ in range(2, degree + 1):
        values.append(2 * tau * values[-1] - values[-2])
    return values[: degree + 1]
