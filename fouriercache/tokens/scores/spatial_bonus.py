"""A bonus that spreads the chosen tokens over the image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import pad

from ...checks import check_number, check_whole
from .base import MapScore, Scene, Score, Signal, Signals, check_score


@dataclass(frozen=True)
class SpatialBonus:
    """Another score, with a bonus for the best token of every `cell` x `cell` square of the grid: s4 of ToCa.

    `score * (1 + bonus)` for the winner of each cell (ToCa, DiT-ToCa/cache_functions/cache_cutfresh.py: bonus 0.6 and
    cells of 2 x 2; PixArt 0.4 and 4 x 4). Cells at the border of a grid that they do not divide are smaller; each
    frame of a video has cells of its own; tokens off the grid get no bonus.

    Raises MethodError when `bonus` is not a finite number above 0, or `cell` not a whole number of at least 2.
    """

    name: ClassVar[str] = "spatial_bonus"
    needs_grid: ClassVar[bool] = True

    score: Score
    bonus: float = 0.6
    cell: int = 2

    def __post_init__(self) -> None:
        check_score("SpatialBonus", self.score)
        check_number("SpatialBonus", "bonus", self.bonus, above=0, advice="0.6 is published for DiT, 0.4 for PixArt.")
        check_whole("SpatialBonus", "cell", self.cell, least=2, advice="A cell of 2 x 2 tokens has one winner.")

    @property
    def reads(self) -> tuple[Signal, ...]:
        """Those of the score."""
        return self.score.reads

    @property
    def maps(self) -> tuple[MapScore, ...]:
        """Those of the score."""
        return self.score.maps

    def rank(self, signals: Signals, scene: Scene) -> Tensor:
        """Return the score with its bonus, float32[B, N]."""
        score, grid = self.score.rank(signals, scene), scene.grid
        assert grid is not None
        stop = grid.start + grid.t * grid.h * grid.w
        inside = score[:, grid.start : stop].unflatten(1, (grid.t, grid.h, grid.w))
        rewarded = (inside + self._wins(inside) * inside * self.bonus).flatten(1)
        off = [score[:, : grid.start], score[:, stop:]]
        return torch.cat([off[0], rewarded, off[1]], dim=1) if rewarded.shape != score.shape else rewarded

    def _wins(self, score: Tensor) -> Tensor:
        """Return 1 for the winner of each cell and 0 elsewhere, [B, T, H, W]."""
        side, (height, width) = self.cell, score.shape[-2:]
        border = (0, -width % side, 0, -height % side)
        filled = pad(score, border, value=-torch.inf) if any(border) else score
        rows = filled.unflatten(-2, (-1, side)).unflatten(-1, (-1, side))
        cells = rows.transpose(-3, -2).flatten(-2)
        places = torch.arange(side * side, device=score.device)
        wins = (places == cells.argmax(-1, keepdim=True)).to(score.dtype)
        whole = wins.unflatten(-1, (side, side)).transpose(-3, -2).flatten(-2).flatten(-3, -2)
        cut: Tensor = whole[..., :height, :width] if any(border) else whole
        return cut
