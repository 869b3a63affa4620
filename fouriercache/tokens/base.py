"""What every choice of tokens answers."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from ..errors import MethodError
from ..schedules import TokenCounts
from .scores import Score


@runtime_checkable
class Tokens(Protocol):
    """Says which tokens take the predicted value at a step that is not computed."""

    @property
    def name(self) -> str:
        """The choice's kind in one word, for tables and manifests."""

    @property
    def is_partial(self) -> bool:
        """Whether some tokens are computed afresh at such a step, which takes a graph of its own."""


@runtime_checkable
class PartialTokens(Tokens, TokenCounts, Protocol):
    """Tokens of which some are computed afresh at a step that is not computed: the best by a score."""

    @property
    def score(self) -> Score:
        """What the tokens of a site are ranked by; the highest are computed."""


def partial_tokens(tokens: Tokens) -> PartialTokens | None:
    """Return `tokens` as what chooses some, None when they choose none.

    Raises MethodError when they are partial and do not say which, or how many.
    """
    if not tokens.is_partial:
        return None
    if not isinstance(tokens, PartialTokens):
        raise MethodError(
            f"The tokens {tokens.name!r} are partial, but do not say which and how many they are.\n"
            f"  where: {tokens!r}\n"
            "  Give the class the members of PartialTokens, or use TopK(score, ratio)."
        )
    return tokens
