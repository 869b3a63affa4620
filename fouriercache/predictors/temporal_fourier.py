"""The periodic extension of the history window."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import cos, floor, pi
from typing import ClassVar

from ..checks import check_number, check_whole
from .base import ScalarPredictor, check_target


@dataclass(frozen=True)
class TemporalFourier(ScalarPredictor):
    """The discrete Fourier series of the last computed features, evaluated at the predicted step.

    The window is the newest n = min(history, number of computed steps) features. With g = (newest - oldest) / (n - 1)
    the mean gap, its series has the period n g: frequencies m / (n g), m = 0 .. floor(n / 2), of which those with
    m <= keep * floor(n / 2) are kept. `keep` = 1.0 interpolates the window; less is a low-pass filter. For a window at
    even gaps, and u = (t - oldest) / g, the scalar of its i-th feature from the oldest is::

        d(u - i) / n,   d(v) = 1 + 2 sum_{0 < m < n / 2, kept} cos(2 pi m v / n)  [+ cos(pi v), n even and n / 2 kept]

    (the Dirichlet kernel; the last term is the real form of the Nyquist frequency.) A window at uneven gaps is first
    resampled to even ones between its oldest and newest feature, linearly between neighbours, so the scalars stay
    linear in the features and a window at even gaps is not changed.

    The series is periodic: one gap after the newest feature it gives the *oldest* one. That is why it is no good
    forecast of a trajectory that does not repeat; it is here so that this can be measured.

    Raises MethodError when `history` is not a whole number of at least 1, or `keep` not a number above 0, at most 1.
    """

    name: ClassVar[str] = "temporal_fourier"

    history: int = 4
    keep: float = 1.0

    def __post_init__(self) -> None:
        check_whole("TemporalFourier", "history", self.history, least=1, advice="history=1 reuses.")
        check_number(
            "TemporalFourier",
            "keep",
            self.keep,
            above=0,
            most=1,
            advice="It is the share of temporal frequencies that is kept, 1.0 for all; the mean always is.",
        )

    def coefficients(self, computed: Sequence[int], step: int) -> tuple[float, ...]:
        """Return the series' scalars, one for each feature of the window.

        Raises TrajectoryError when nothing was computed before `step`, or `computed` is not ascending.
        """
        check_target(self, computed, step)
        window = computed[-self.history :]
        count = len(window)
        if count == 1:
            return (1.0,)
        gap = (window[-1] - window[0]) / (count - 1)
        ahead = (step - window[0]) / gap
        even = [_kernel(ahead - i, count, self.keep) / count for i in range(count)]
        scalars = [0.0] * count
        for i, weight in enumerate(even):
            left, share = _neighbours(window, window[0] + i * gap)
            scalars[left] += (1 - share) * weight
            scalars[left + 1] += share * weight
        return tuple(reversed(scalars))


def _kernel(distance: float, count: int, keep: float) -> float:
    """Return d(distance) of a window of `count` features."""
    highest = floor(keep * (count // 2))
    waves = (
        (1 if 2 * m == count else 2) * cos(2 * pi * m * distance / count)  # Nyquist's sine and cosine are one wave
        for m in range(1, highest + 1)
    )
    return 1 + sum(waves)


def _neighbours(window: Sequence[int], at: float) -> tuple[int, float]:
    """Return the place in `window` at or before `at`, not the last, and the share of the way to the next one."""
    left = max(k for k in range(len(window) - 1) if window[k] <= at or k == 0)
    return left, (at - window[left]) / (window[left + 1] - window[left])
