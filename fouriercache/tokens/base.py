"""What every choice of tokens answers."""

from __future__ import annotations

from typing import Protocol, runtime_checkable


@runtime_checkable
class Tokens(Protocol):
    """Says which tokens take the predicted value at a step that is not computed."""

    @property
    def name(self) -> str:
        """The choice's kind in one word, for tables and manifests."""

    @property
    def is_partial(self) -> bool:
        """Whether some tokens are computed afresh at such a step, which takes a graph of its own."""
