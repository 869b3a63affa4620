"""Several scores as one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from operator import add
from typing import ClassVar

from torch import Tensor

from ...checks import check_number
from ...errors import MethodError
from .base import MapScore, Scene, Score, Signal, Signals, check_score


@dataclass(frozen=True)
class Total:
    """The weighted sum of several scores: `Total((AttentionReceived(), Age()))`; weights are 1 when not given.

    Raises MethodError when there is no score, or not one finite weight for each.
    """

    name: ClassVar[str] = "total"

    scores: tuple[Score, ...]
    weights: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        where = f"  where: Total({self.scores!r}, {self.weights!r})\n"
        if not _is_filled_tuple(self.scores):
            raise MethodError(f"Total needs a tuple of scores.\n{where}  Pass Total((AttentionReceived(), Age())).")
        for score in self.scores:
            check_score("Total", score)
        if self.weights and len(self.weights) != len(self.scores):
            raise MethodError(
                f"Total has {len(self.scores)} scores and {len(self.weights)} weights.\n{where}"
                "  Pass one weight for each score, or none at all."
            )
        for index, weight in enumerate(self.weights):
            check_number("Total", f"weights[{index}]", weight, advice="Weights multiply the scores.")

    @property
    def reads(self) -> tuple[Signal, ...]:
        """The signals of all parts, each once."""
        return tuple(dict.fromkeys(signal for score in self.scores for signal in score.reads))

    @property
    def needs_grid(self) -> bool:
        """Whether one of the parts needs one."""
        return any(score.needs_grid for score in self.scores)

    @property
    def maps(self) -> tuple[MapScore, ...]:
        """Those of all parts, each once."""
        return tuple(dict.fromkeys(found for score in self.scores for found in score.maps))

    def rank(self, signals: Signals, scene: Scene) -> Tensor:
        """Return the sum, float32[B, N]."""
        found: Sequence[Tensor] = [score.rank(signals, scene) for score in self.scores]
        if self.weights:
            found = [weight * score for weight, score in zip(self.weights, found, strict=True)]
        return reduce(add, found)


def _is_filled_tuple(value: object) -> bool:
    return isinstance(value, tuple) and bool(value)
