"""What an adaptive schedule measures at each step, cheap enough to be computed at every one.

An indicator is a value of the graph, filtered or not; how far it moved since the last step tells whether the features
have to be computed again. A new indicator is one frozen dataclass in a file of its own here; it has the members of
`Indicator`. What decides runs without torch, so torch is imported only where matrices are made.
"""

from .band_limited import BandLimited
from .base import Indicator
from .filtered import Filtered
from .latents import Latents
from .modulated import Modulated
from .noise import DDPM, Flow, Noise
from .timestep_embedding import TimestepEmbedding

__all__ = ["DDPM", "BandLimited", "Filtered", "Flow", "Indicator", "Latents", "Modulated", "Noise", "TimestepEmbedding"]
