"""The low band of a value."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from ..checks import check_choice, check_number

if TYPE_CHECKING:
    from torch import Tensor

_ON_EDGE = 1e-12
"""Frequencies this close to the edge lie on it."""


@dataclass(frozen=True)
class BandLimited:
    """The lowest frequencies of a value, the same at every step: the fixed control of `Filtered`.

    Along each axis of the token grid the frequencies up to `edge` stay, as a share of the fastest one there is (half a
    cycle a token); the mean always stays. `source` is what is filtered, as in `Filtered`.

    Raises MethodError when `edge` is not above 0 and at most 1, or `source` is another word.
    """

    name: ClassVar[str] = "band-limited"
    is_filtered: ClassVar[bool] = True

    edge: float = 0.25
    source: Literal["modulated", "latents"] = "modulated"

    def __post_init__(self) -> None:
        advice = "edge=0.25 keeps the lowest quarter of the frequencies of each axis, edge=1.0 all."
        check_number("BandLimited", "edge", self.edge, above=0.0, most=1.0, advice=advice)
        check_choice("BandLimited", "source", self.source, ("modulated", "latents"))

    def filters(self, sizes: Sequence[int], timestep: float) -> tuple[Tensor, ...]:  # noqa: ARG002  # always the same
        """Return the projection of each axis on its low band, float64."""
        import torch

        from ..spectral import circulant

        return tuple(circulant(torch.tensor(self._gain(size), dtype=torch.float64)) for size in sizes)

    def _gain(self, size: int) -> list[float]:
        """1.0 for each frequency that stays, in the order of `fftfreq`: 0, 1, ... and back down to 1."""
        return [float(2 * min(k, size - k) / size <= self.edge + _ON_EDGE) for k in range(size)]
