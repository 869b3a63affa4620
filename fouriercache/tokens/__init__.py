"""For which tokens a cached step stands in.

A new choice of tokens is one frozen dataclass in a file of its own here; it has the members of `Tokens`.
"""

from .all import All
from .base import Tokens

__all__ = ["All", "Tokens"]
