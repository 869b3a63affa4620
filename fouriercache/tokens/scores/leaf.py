"""The base of scores without parts."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

from torch import Tensor

from .base import MapKind, MapScore, Scene, Signal, Signals


class LeafScore(ABC):
    """Base of scores that look at signals and have no parts."""

    name: ClassVar[str]
    reads: ClassVar[tuple[Signal, ...]] = ()
    needs_grid: ClassVar[bool] = False

    @property
    def maps(self) -> tuple[MapScore, ...]:
        """None: it looks at no attention map."""
        return ()

    @abstractmethod
    def rank(self, signals: Signals, scene: Scene) -> Tensor:
        """Return the score of each token, float32[B, N]; see `Score.rank`."""


class AttentionScore(LeafScore):
    """Base of scores of an attention map."""

    map_kind: ClassVar[MapKind]

    @property
    def maps(self) -> tuple[MapScore, ...]:
        """Itself."""
        return (self,)

    @abstractmethod
    def digest(self, attention: Tensor, scene: Scene) -> Tensor:
        """Return what is kept of the map, float32[B, N]; see `MapScore.digest`."""
