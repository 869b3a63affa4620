"""The threshold at which an adaptive method computes a wanted number of steps, found on the calibration images."""

from __future__ import annotations

from collections.abc import Callable

import fouriercache as fc

from .lab import Lab

_ROUNDS = 4


def tuned(lab: Lab, build: Callable[[float], fc.Method], wanted: float, start: float = 0.2) -> fc.Method:
    """Return `build(threshold)` that computes about `wanted` steps on the calibration images.

    More threshold computes fewer steps: the interval that holds it is first found by doubling, then halved. Of all
    thresholds tried, the one that computes no more than `wanted` and is closest to it is taken.

    Raises:
        ValueError: no threshold tried computes as few.
    """
    tried: dict[float, float] = {}

    def count(threshold: float) -> float:
        tried[threshold] = lab.measure(build(threshold), lab.subject.calibration).computed
        return tried[threshold]

    low, high = 0.0, start
    while count(high) > wanted and len(tried) < _ROUNDS:
        low, high = high, 2 * high
    while len(tried) < 2 * _ROUNDS and tried[high] < wanted:
        middle = (low + high) / 2
        if count(middle) > wanted:
            low = middle
        else:
            high = middle
    within = [threshold for threshold, computed in tried.items() if computed <= wanted]
    if not within:
        raise ValueError(f"no threshold up to {high:g} computes as few as {wanted:g} steps: {tried}")
    return build(max(within, key=lambda threshold: (tried[threshold], -threshold)))
