"""How far a token points away from its kept value."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor
from torch.nn.functional import cosine_similarity, normalize

from .base import Scene, Signal, Signals
from .leaf import LeafScore


@dataclass(frozen=True)
class Dissimilarity(LeafScore):
    """1 minus the cosine of what enters the site and what is kept of it (ToCa, scores.py: cache_type "similarity")."""

    name: ClassVar[str] = "dissimilarity"
    reads: ClassVar[tuple[Signal, ...]] = ("tokens", "kept")

    def rank(self, signals: Signals, scene: Scene) -> Tensor:  # noqa: ARG002  # the protocol names both
        """Return the normalised distances, float32[B, N]."""
        cosine = cosine_similarity(signals["tokens"].float(), signals["kept"].float(), dim=-1)
        return normalize(1 - cosine, dim=1)
