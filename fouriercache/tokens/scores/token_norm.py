"""How long a token is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor
from torch.linalg import vector_norm
from torch.nn.functional import normalize

from .base import Scene, Signal, Signals
from .leaf import LeafScore


@dataclass(frozen=True)
class TokenNorm(LeafScore):
    """The 2-norm of what enters the site, over its norm over the tokens (ToCa, scores.py: cache_type "norm")."""

    name: ClassVar[str] = "token_norm"
    reads: ClassVar[tuple[Signal, ...]] = ("tokens",)

    def rank(self, signals: Signals, scene: Scene) -> Tensor:  # noqa: ARG002  # the protocol names both
        """Return the normalised norms, float32[B, N]."""
        return normalize(vector_norm(signals["tokens"].float(), dim=-1), dim=1)
