"""For which tokens a cached step stands in.

A new choice of tokens is one frozen dataclass in a file of its own here; it has the members of `Tokens`, or of
`PartialTokens`. What tokens are ranked by is a room of its own, `scores`.
"""

from .all import All
from .base import PartialTokens, Tokens, partial_tokens
from .equal_ratio import EqualRatio
from .fixed_counts import FixedCounts
from .scores import (
    Age,
    AttentionEntropy,
    AttentionReceived,
    BandEnergy,
    Dissimilarity,
    LowPassShare,
    RandomOrder,
    SpatialBonus,
    TokenNorm,
    Total,
)
from .toca_ratio import ToCaRatio
from .topk import TopK

__all__ = [
    "Age",
    "All",
    "AttentionEntropy",
    "AttentionReceived",
    "BandEnergy",
    "Dissimilarity",
    "EqualRatio",
    "FixedCounts",
    "LowPassShare",
    "PartialTokens",
    "RandomOrder",
    "SpatialBonus",
    "ToCaRatio",
    "TokenNorm",
    "Tokens",
    "TopK",
    "Total",
    "partial_tokens",
]
