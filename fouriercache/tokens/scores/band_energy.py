"""How much of a token is fine or coarse in space."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor
from torch.nn.functional import normalize

from ...checks import check_choice, check_number
from .base import Scene, Signal, Signals
from .leaf import LeafScore
from .on_grid import from_coefficients, low_band, to_coefficients


@dataclass(frozen=True)
class BandEnergy(LeafScore):
    """The energy of a token in the high or the low spatial frequencies of what enters the site, or of its change.

    The tokens are transformed by a 2-D DCT on their grid (3-D for a video), the coefficients of one band are kept
    (radius at most `edge` of the largest is low, above it high), and transformed back; the energy is the sum over the
    channels, over its norm over the tokens. "change" is the difference to what entered when the token
    was computed last. Ours, to ask whether a Fourier transform finds the tokens worth computing.

    Raises MethodError when `band` or `of` is another word, or `edge` is not a number above 0 and at most 1.
    """

    name: ClassVar[str] = "band_energy"
    needs_grid: ClassVar[bool] = True

    band: Literal["low", "high"] = "high"
    of: Literal["tokens", "change"] = "change"
    edge: float = 0.25

    def __post_init__(self) -> None:
        check_choice("BandEnergy", "band", self.band, ("low", "high"))
        check_choice("BandEnergy", "of", self.of, ("tokens", "change"))
        check_number("BandEnergy", "edge", self.edge, above=0, most=1, advice="It is a share of the largest radius.")

    @property
    def reads(self) -> tuple[Signal, ...]:  # type: ignore[override]  # a class variable where a score has one answer
        """What enters, and for the change what entered."""
        return ("tokens", "entered") if self.of == "change" else ("tokens",)

    def rank(self, signals: Signals, scene: Scene) -> Tensor:
        """Return the normalised energies, float32[B, N]; 0 for tokens off the grid."""
        grid = scene.grid
        assert grid is not None
        field = signals["tokens"].float()
        if self.of == "change":
            field = field - signals["entered"].float()
        stop = grid.start + grid.t * grid.h * grid.w
        coefficients = to_coefficients(field[:, grid.start : stop], grid)
        low = low_band(field, grid, self.edge)
        kept = from_coefficients(coefficients * (low if self.band == "low" else 1 - low), grid)
        energy = kept.square().sum(-1)
        off = field.new_zeros(field.shape[:2])
        whole = torch.cat([off[:, : grid.start], energy, off[:, stop:]], dim=1)
        return normalize(whole, dim=1)
