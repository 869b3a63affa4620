"""What every score answers, and what it may look at."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol, TypeAlias, runtime_checkable

from torch import Tensor

from ...errors import MethodError

Signal = Literal["tokens", "kept", "entered", "age", "step"]
"""What a score can look at in a site, at the step at which it chooses.

"tokens": what enters the site now, [B, N, C]. "kept": the site's kept value, [B, N, C]. "entered": what entered the
site when each token was computed last, [B, N, C]. "age": cached steps since each token was computed, int64[B, N].
"step": the step's number, int64[].
"""

MapKind = Literal["self", "cross"]
"""Attention among the tokens of the grid, or from them to other tokens (a text's)."""

Signals: TypeAlias = "Mapping[Signal | Score, Tensor]"
"""The signals a score asks for, by word; and by the score itself, what it kept of the attention map, [B, N]."""


class Grid(NamedTuple):
    """The token grid, t * h * w tokens in row-major order, the first of them at index `start`."""

    t: int
    h: int
    w: int
    start: int = 0


@dataclass(frozen=True)
class Scene:
    """What is the same at every step: the grid, where one is known, and the number of the site's block."""

    grid: Grid | None
    layer: int


@runtime_checkable
class Score(Protocol):
    """Ranks the tokens of a site at a cached step; the highest are computed afresh.

    Scores are plain functions of tensors. A pass traces them into the graph, so a new score needs no new node.
    """

    @property
    def name(self) -> str:
        """The score's kind in one word, for tables and manifests."""

    @property
    def reads(self) -> tuple[Signal, ...]:
        """The signals that `rank` looks at, those of its parts included."""

    @property
    def needs_grid(self) -> bool:
        """Whether it can rank only tokens that are known to lie on a (T, H, W) grid."""

    @property
    def maps(self) -> tuple[MapScore, ...]:
        """The scores in it that look at an attention map; itself, if it is one."""

    def rank(self, signals: Signals, scene: Scene) -> Tensor:
        """Return the score of each token, float32[B, N]."""


@runtime_checkable
class MapScore(Score, Protocol):
    """A score of the attention map of the site's block, as it was when attention was computed last.

    Attention is then computed with an explicit softmax; every other score leaves it fused.
    """

    @property
    def map_kind(self) -> MapKind:
        """Which attention of the block it looks at."""

    def digest(self, attention: Tensor, scene: Scene) -> Tensor:
        """Return what is kept of the map from step to step, float32[B, N].

        Args:
            attention: the map averaged over the heads, float32[B, N, M]; M is N for kind "self".
        """


def check_score(owner: str, score: object) -> None:
    """Raise MethodError unless `score` is one."""
    if isinstance(score, type) or not isinstance(score, Score):
        raise MethodError(
            f"{owner} needs a score to rank tokens by, got {score!r}.\n"
            f"  where: {owner}({score!r})\n"
            f"  Pass one, as in {owner}(AttentionReceived())."
        )
