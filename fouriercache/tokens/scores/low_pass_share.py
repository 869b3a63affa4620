"""How smoothly a token's influence is spread over the image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor
from torch.nn.functional import normalize

from ...checks import check_number
from .base import MapKind, Scene, Signals
from .leaf import AttentionScore
from .on_grid import low_band, to_coefficients


@dataclass(frozen=True)
class LowPassShare(AttentionScore):
    """The share of low frequencies in a token's column of the attention map: an error in it spreads far and evenly.

    `sum_low |DCT(A[:, token])|**2 / sum |DCT(A[:, token])|**2` over the grid of the attending tokens, radius at most
    `edge` of the largest, over its norm over the tokens. Ours, to ask whether the spectra of attention maps tell how
    errors spread.

    Raises MethodError when `edge` is not a number above 0 and at most 1.
    """

    name: ClassVar[str] = "low_pass_share"
    needs_grid: ClassVar[bool] = True
    map_kind: ClassVar[MapKind] = "self"

    edge: float = 0.25

    def __post_init__(self) -> None:
        check_number("LowPassShare", "edge", self.edge, above=0, most=1, advice="It is a share of the largest radius.")

    def digest(self, attention: Tensor, scene: Scene) -> Tensor:
        """Return the shares, float32[B, N]."""
        grid = scene.grid
        assert grid is not None
        rows = attention[:, grid.start : grid.start + grid.t * grid.h * grid.w]
        power = to_coefficients(rows, grid).square()
        return (power * low_band(attention, grid, self.edge)).sum(1) / power.sum(1).clamp_min(1e-30)

    def rank(self, signals: Signals, scene: Scene) -> Tensor:  # noqa: ARG002  # the protocol names both
        """Return the shares over their norm, float32[B, N]."""
        return normalize(signals[self], dim=1)
