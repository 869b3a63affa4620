"""Pairs of runs on the same images: is one closer to the uncached images than the other, and how sure is that?"""

from __future__ import annotations

import math
import statistics as plain
from collections.abc import Sequence
from dataclasses import dataclass

_T_95 = {4: 2.78, 9: 2.26, 19: 2.09, 29: 2.05, 39: 2.02, 63: 2.0}
"""Student's t, two-sided 95 %, by degrees of freedom; between two entries the one of fewer degrees is used."""


@dataclass(frozen=True)
class Ratio:
    """Geometric mean of the errors' ratios over the images, and its 95 % confidence interval."""

    mean: float
    low: float
    high: float

    @property
    def is_smaller(self) -> bool:
        """Whether the whole interval lies below 1: the first of the pair is closer."""
        return self.high < 1

    @property
    def is_larger(self) -> bool:
        """Whether the whole interval lies above 1."""
        return self.low > 1

    def __str__(self) -> str:
        return f"{self.mean:.3f} [{self.low:.3f}, {self.high:.3f}]"


def paired_ratio(errors: Sequence[float], control: Sequence[float]) -> Ratio:
    """Return `errors` over `control`, image by image: mean and interval of the logarithms, by Student's t.

    Raises:
        ValueError: the two have different lengths, or fewer than five images.
    """
    if len(errors) != len(control) or len(errors) < 5:
        raise ValueError(f"pairs need two equally long lists of at least 5, got {len(errors)} and {len(control)}")
    logs = [math.log(a / b) for a, b in zip(errors, control, strict=True)]
    center = plain.fmean(logs)
    spread = t_95(len(logs) - 1) * plain.stdev(logs) / math.sqrt(len(logs))
    return Ratio(math.exp(center), math.exp(center - spread), math.exp(center + spread))


def t_95(freedom: int) -> float:
    """Student's t for a two-sided interval of 95 %, not below the true value."""
    return _T_95[max(degrees for degrees in _T_95 if degrees <= freedom)]
