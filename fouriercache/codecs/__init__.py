"""How a computed value is kept until it is reused or extrapolated.

A new codec is one frozen dataclass in a file of its own here; it has the members of `Codec`.
"""

from .base import Codec
from .dense import Dense

__all__ = ["Codec", "Dense"]
