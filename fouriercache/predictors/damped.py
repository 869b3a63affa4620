"""A prediction drawn back towards the newest feature."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from ..checks import check_number
from .base import Coefficients, Predictor, check_member, length_of


@dataclass(frozen=True)
class Damped:
    """`newest + factor * (prediction - newest)`: what the predictor adds to reuse, made smaller or larger.

    factor = 0 reuses, 1 is the predictor itself. In one band of `Banded` it damps that band alone.

    Raises MethodError when `predictor` is no predictor or asks for Gram matrices, or `factor` is not a finite number
    of at least 0.
    """

    name: ClassVar[str] = "damped"
    needs_gram: ClassVar[bool] = False

    predictor: Predictor
    factor: float

    def __post_init__(self) -> None:
        check_member("Damped", "predictor", self.predictor)
        check_number("Damped", "factor", self.factor, least=0, advice="factor=0 reuses, 1 changes nothing.")

    @property
    def history(self) -> int:
        """As many features as the predictor reads."""
        return self.predictor.history

    @property
    def edges(self) -> tuple[float, ...]:
        """The predictor's own bands."""
        return self.predictor.edges

    @property
    def per_site(self) -> bool:
        """Whether the predictor tells sites apart."""
        return self.predictor.per_site

    @property
    def num_steps(self) -> int | None:
        """The length of the trajectories that the predictor is made for, None for any."""
        return length_of(self.predictor)

    def table(self, computed: Sequence[int], step: int) -> Coefficients:
        """Return the predictor's scalars times `factor`, and `1 - factor` more of the newest feature.

        Raises what the predictor raises.
        """
        return tuple(tuple(self._damp(row) for row in site) for site in self.predictor.table(computed, step))

    def _damp(self, row: tuple[float, ...]) -> tuple[float, ...]:
        newest, *older = row
        return ((1 - self.factor) + self.factor * newest, *(self.factor * scalar for scalar in older))
