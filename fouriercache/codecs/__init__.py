"""How a computed value is kept until it is reused or extrapolated.

A new codec is one frozen dataclass in a file of its own here; it has the members of `Codec`.
"""

from .base import Codec, Storage
from .dense import Dense
from .low_pass import LowPass
from .quantized import Quantized

__all__ = ["Codec", "Dense", "LowPass", "Quantized", "Storage"]
