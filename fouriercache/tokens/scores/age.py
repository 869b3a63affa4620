"""How long a token has been cached."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from ...checks import check_number, check_whole
from .base import Scene, Signal, Signals
from .leaf import LeafScore


@dataclass(frozen=True)
class Age(LeafScore):
    """Cached steps since the token was computed, s3 of ToCa: no token is left behind for good.

    `weight * age / interval` (ToCa, DiT-ToCa/cache_functions/score_evaluate.py; weight is its soft_fresh_weight,
    interval its fresh_threshold).

    Raises MethodError when `weight` is not a finite number above 0, or `interval` not a whole number of at least 1.
    """

    name: ClassVar[str] = "age"
    reads: ClassVar[tuple[Signal, ...]] = ("age",)

    weight: float = 0.25
    interval: int = 3

    def __post_init__(self) -> None:
        check_number("Age", "weight", self.weight, above=0, advice="0.25 is published; without it, leave Age out.")
        check_whole("Age", "interval", self.interval, least=1, advice="It is the schedule's interval.")

    def rank(self, signals: Signals, scene: Scene) -> Tensor:  # noqa: ARG002  # the protocol names both
        """Return the weighted age, float32[B, N]."""
        return self.weight * (signals["age"].float() / self.interval)
