"""Tokens in an order that means nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ...checks import check_whole
from .base import Scene, Signal, Signals
from .leaf import LeafScore


@dataclass(frozen=True)
class RandomOrder(LeafScore):
    """Tokens drawn at random, anew for each step, layer and row: what every other score must beat.

    The draw is arithmetic on the numbers of row, token, step and layer, so it is the same on every run and device type
    up to the rounding of a sine, and a graph with it has no random state.

    Raises MethodError when `seed` is not a whole number of at least 0.
    """

    name: ClassVar[str] = "random_order"
    reads: ClassVar[tuple[Signal, ...]] = ("tokens", "step")

    seed: int = 0

    def __post_init__(self) -> None:
        check_whole("RandomOrder", "seed", self.seed, least=0, advice="Any small number will do.")

    def rank(self, signals: Signals, scene: Scene) -> Tensor:
        """Return numbers in [0, 1), float32[B, N]."""
        ones = torch.ones_like(signals["tokens"][..., 0], dtype=torch.float64)
        row, token = ones.cumsum(0), ones.cumsum(1)
        # Weyl sequences with irrational steps, folded by a sine: neighbours in any of the numbers are unrelated.
        phase = token * 12.9898 + row * 78.233 + signals["step"].double() * 37.719 + (scene.layer + 7.13 * self.seed)
        return torch.frac(torch.sin(phase) * 43758.5453).abs().float()
