"""For which tokens a cached step stands in.

A new choice of tokens is one frozen dataclass here that has the members of `Tokens`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Protocol, runtime_checkable


@runtime_checkable
class Tokens(Protocol):
    """Says which tokens take the predicted value at a step that is not computed."""

    @property
    def name(self) -> str:
        """The choice's kind in one word, for tables and manifests."""

    @property
    def is_partial(self) -> bool:
        """Whether some tokens are computed afresh at such a step, which takes a graph of its own."""


@dataclass(frozen=True)
class All:
    """Every token takes the predicted value; nothing of a site runs at a cached step."""

    name: ClassVar[str] = "all"
    is_partial: ClassVar[bool] = False
