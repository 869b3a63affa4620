"""What every codec answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

from ..spectral import Basis

Slots = Literal["all", "older"]
StoredType = Literal["int8", "bfloat16", "float16"]


@dataclass(frozen=True)
class Storage:
    """The form in which features lie in the cache: what a codec is, as data for the passes.

    With `basis`, a value on the token grid is kept as its lowest coefficients, a share `keep` of all of them. With
    `dtype`, what is kept is rounded to it; int8 has one float32 scale for each token or coefficient, the largest size
    in it over 127. "older" keeps the newest feature as it is and encodes those before it. The default changes nothing.
    """

    basis: Basis | None = None
    keep: float = 1.0
    dtype: StoredType | None = None
    slots: Slots = "all"


@runtime_checkable
class Codec(Protocol):
    """Names the form in which the history of a value is stored."""

    @property
    def name(self) -> str:
        """The codec's kind in one word, for tables and manifests."""

    @property
    def needs_grid(self) -> bool:
        """Whether it can only store values whose tokens are known to lie on a (T, H, W) grid."""

    @property
    def storage(self) -> Storage:
        """The form in which it stores them."""
