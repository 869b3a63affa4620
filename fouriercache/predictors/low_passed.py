"""A prediction without its high spatial frequencies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from ..checks import check_edges
from .base import Coefficients, Predictor, check_member, length_of


@dataclass(frozen=True)
class LowPassed:
    """The predictor's low spatial band; what lies above `edge` is left out of the prediction.

    `edge` is a share of the token grid's largest radial frequency. With `Reuse` it is the filtered reuse that the idea
    of a reusable low band suggests; it is here so that this can be measured against reuse without a filter.

    Raises MethodError when `edge` is not a float between 0 and 1, or `predictor` is no predictor of one band, or asks
    for Gram matrices.
    """

    name: ClassVar[str] = "low_passed"
    needs_gram: ClassVar[bool] = False

    predictor: Predictor
    edge: float

    def __post_init__(self) -> None:
        check_member("LowPassed", "predictor", self.predictor, bands=1)
        check_edges("LowPassed", (self.edge,))

    @property
    def history(self) -> int:
        """As many features as the predictor reads."""
        return self.predictor.history

    @property
    def edges(self) -> tuple[float, ...]:
        """The one border."""
        return (self.edge,)

    @property
    def per_site(self) -> bool:
        """Whether the predictor tells sites apart."""
        return self.predictor.per_site

    @property
    def num_steps(self) -> int | None:
        """The length of the trajectories that the predictor is made for, None for any."""
        return length_of(self.predictor)

    def table(self, computed: Sequence[int], step: int) -> Coefficients:
        """Return the predictor's row for the low band and zeros for the high one. Raises what the predictor raises."""
        return tuple((row, (0.0,) * len(row)) for (row,) in self.predictor.table(computed, step))
