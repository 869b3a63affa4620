"""What ranks the tokens of a site: one frozen dataclass in a file of its own, with the members of `Score`."""

from .age import Age
from .attention_entropy import AttentionEntropy
from .attention_received import AttentionReceived
from .base import Grid, MapKind, MapScore, Scene, Score, Signal, Signals, check_score
from .dissimilarity import Dissimilarity
from .random_order import RandomOrder
from .spatial_bonus import SpatialBonus
from .token_norm import TokenNorm
from .total import Total

__all__ = [
    "Age",
    "AttentionEntropy",
    "AttentionReceived",
    "Dissimilarity",
    "Grid",
    "MapKind",
    "MapScore",
    "RandomOrder",
    "Scene",
    "Score",
    "Signal",
    "Signals",
    "SpatialBonus",
    "TokenNorm",
    "Total",
    "check_score",
]
