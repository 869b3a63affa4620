"""How much attention a token receives."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor
from torch.nn.functional import normalize

from .base import MapKind, Scene, Signals
from .leaf import AttentionScore


@dataclass(frozen=True)
class AttentionReceived(AttentionScore):
    """The attention a token receives from all others, s1 of ToCa: an error in it spreads furthest.

    `normalize_over_tokens(sum_i A[i, token])`, A the self-attention map averaged over the heads, the norm the 2-norm
    (ToCa, DiT-ToCa/cache_functions/scores.py).
    """

    name: ClassVar[str] = "attention_received"
    map_kind: ClassVar[MapKind] = "self"

    def digest(self, attention: Tensor, scene: Scene) -> Tensor:  # noqa: ARG002  # the protocol names both
        """Return the column sums, float32[B, N]."""
        return attention.sum(dim=1)

    def rank(self, signals: Signals, scene: Scene) -> Tensor:  # noqa: ARG002  # the protocol names both
        """Return the column sums over their norm, float32[B, N]."""
        return normalize(signals[self], dim=1)
