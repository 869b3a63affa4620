"""The interpolating polynomial through the last computed features at their true positions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import isfinite, prod
from typing import ClassVar

from ..checks import check_whole
from ..errors import MethodError, TrajectoryError
from .base import ScalarPredictor, check_target


@dataclass(frozen=True)
class Newton(ScalarPredictor):
    """The polynomial through the newest `order + 1` computed features, continued to the predicted step.

    This is Newton's interpolation formula with true divided differences; its scalars are Lagrange's basis polynomials
    at the target (Berrut and Trefethen, *Barycentric Lagrange Interpolation*, SIAM Review 46, 2004, eq. 2.1)::

        F(t) = sum_k H_k * prod_{j != k} (x(t) - x_j) / (x_k - x_j)

    It differs from `Taylor` in two ways. TaylorSeer divides all differences by the last gap, so it follows a curved
    feature exactly only while gaps are even; and its powers x^j / j! take backward differences for derivatives, which
    lag half a gap behind. A feature that is a polynomial of degree `order` in x is predicted exactly here, always.

    `times` says where steps lie: x(step) = times[step], strictly rising or strictly falling, for instance the
    sampler's log signal-to-noise ratios. () takes the step index itself.

    Raises MethodError when `order` is not a whole number of at least 0, or `times` is not a tuple of finite floats that
    rise or fall strictly.
    """

    name: ClassVar[str] = "newton"

    order: int
    times: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        check_whole(
            "Newton", "order", self.order, least=0, advice="order=0 reuses, 1 follows the slope, 2 the curvature."
        )
        _check_times(self.times)

    @property
    def history(self) -> int:
        """`order + 1` features: a polynomial of degree n passes through n + 1 points."""
        return self.order + 1

    @property
    def num_steps(self) -> int | None:
        """The length of the trajectories that `times` is for, None for any."""
        return len(self.times) or None

    def coefficients(self, computed: Sequence[int], step: int) -> tuple[float, ...]:
        """Return Lagrange's scalars, one more than the order that is available.

        Raises TrajectoryError when nothing was computed before `step`, `computed` is not ascending, or `times` does
        not reach `step`.
        """
        check_target(self, computed, step)
        if self.times and step >= len(self.times):
            raise TrajectoryError(
                f"Step {step} has no position: times has {len(self.times)}.\n"
                f"  where: Newton(order={self.order}, times=...)\n"
                "  Give times= one value for each step of the trajectory, from step 0 on."
            )
        at = self._position(step)
        known = [self._position(done) for done in reversed(computed[-self.history :])]
        return tuple(
            prod(((at - other) / (own - other) for k, other in enumerate(known) if k != age), start=1.0)
            for age, own in enumerate(known)
        )

    def _position(self, step: int) -> float:
        return self.times[step] if self.times else float(step)


def _check_times(times: object) -> None:
    advice = "Give one finite float for each step from step 0 on, rising or falling: times=(-4.0, -3.2, -2.1)."
    if not isinstance(times, tuple) or any(type(value) is not float or not isfinite(value) for value in times):
        raise MethodError(
            f"Newton needs times to be a tuple of finite floats, got {times!r}.\n"
            f"  where: Newton(times={times!r})\n"
            f"  {advice}"
        )
    gaps = [after - before for before, after in pairwise(times)]
    if not (all(gap > 0 for gap in gaps) or all(gap < 0 for gap in gaps)):
        raise MethodError(
            f"Newton needs times that rise strictly or fall strictly, got {times!r}.\n"
            f"  where: Newton(times={times!r})\n"
            f"  {advice}"
        )
