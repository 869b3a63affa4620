"""How undecided a token is in what it reads of the text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import normalize

from .base import MapKind, Scene, Signals
from .leaf import AttentionScore


@dataclass(frozen=True)
class AttentionEntropy(AttentionScore):
    """The entropy of a token's cross-attention, s2 of ToCa: what attends to everything is controlled by nothing.

    `normalize_over_tokens(1 - sum_j p_j log(p_j + 1e-7))`, p the token's row of the cross-attention map averaged over
    the heads (ToCa, PixArt-alpha-ToCa/diffusion/model/cache_functions). The published code averages the two passes of
    guidance and refreshes the same tokens in both; here each row of the batch has its own.
    """

    name: ClassVar[str] = "attention_entropy"
    map_kind: ClassVar[MapKind] = "cross"

    def digest(self, attention: Tensor, scene: Scene) -> Tensor:  # noqa: ARG002  # the protocol names both
        """Return the entropies of the rows, float32[B, N]."""
        return -(attention * torch.log(attention + 1e-7)).sum(dim=-1)

    def rank(self, signals: Signals, scene: Scene) -> Tensor:  # noqa: ARG002  # the protocol names both
        """Return 1 + entropy over its norm, float32[B, N]."""
        return normalize(1 + signals[self], dim=1)
