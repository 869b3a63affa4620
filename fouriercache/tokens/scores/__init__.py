"""What ranks the tokens of a site: one frozen dataclass in a file of its own, with the members of `Score`."""

from .age import Age
from .attention_entropy import AttentionEntropy
from .attention_received import AttentionReceived
from .band_energy import BandEnergy
from .base import Grid, MapKind, MapScore, Scene, Score, Signal, Signals, check_score
from .dissimilarity import Dissimilarity
from .low_pass_share import LowPassShare
from .random_order import RandomOrder
from .spatial_bonus import SpatialBonus
from .token_norm import TokenNorm
from .total import Total

__all__ = [
    "Age",
    "AttentionEntropy",
    "AttentionReceived",
    "BandEnergy",
    "Dissimilarity",
    "Grid",
    "LowPassShare",
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
