"""How a computed value is kept until it is reused or extrapolated.

A new codec is one frozen dataclass here that has the members of `Codec`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Protocol, runtime_checkable


@runtime_checkable
class Codec(Protocol):
    """Names the form in which the history of a value is stored."""

    @property
    def name(self) -> str:
        """The codec's kind in one word, for tables and manifests."""

    @property
    def needs_grid(self) -> bool:
        """Whether it can only store values whose tokens are known to lie on a (T, H, W) grid."""


@dataclass(frozen=True)
class Dense:
    """Keep the value as it is: same shape, same dtype, no error."""

    name: ClassVar[str] = "dense"
    needs_grid: ClassVar[bool] = False
