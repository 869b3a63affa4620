"""What every codec answers."""

from __future__ import annotations

from typing import Protocol, runtime_checkable


@runtime_checkable
class Codec(Protocol):
    """Names the form in which the history of a value is stored."""

    @property
    def name(self) -> str:
        """The codec's kind in one word, for tables and manifests."""

    @property
    def needs_grid(self) -> bool:
        """Whether it can only store values whose tokens are known to lie on a (T, H, W) grid."""
