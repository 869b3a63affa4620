"""The newest computed feature, as it is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from .base import ScalarPredictor, check_target


@dataclass(frozen=True)
class Reuse(ScalarPredictor):
    """The newest computed feature as it is: FORA and every method that only reuses."""

    name: ClassVar[str] = "reuse"
    history: ClassVar[int] = 1

    def coefficients(self, computed: Sequence[int], step: int) -> tuple[float, ...]:
        """Return (1.0,). Raises TrajectoryError when nothing was computed before `step`."""
        check_target(self, computed, step)
        return (1.0,)
