"""One predictor for each spatial band."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from ..checks import check_edges
from ..errors import MethodError
from .base import Coefficients, Predictor, check_length, check_member, length_of


@dataclass(frozen=True)
class Banded:
    """One predictor for each band of spatial frequencies, the lowest band first: FreqCa and per-band orders.

    A feature is split on its token grid: `edges` are borders as shares of the largest radial frequency, and n of them
    part n + 1 bands. Each band is predicted by its own predictor, and the bands are summed. Prediction is linear, so
    nothing but the rows of scalars differs between bands, and only sums of the history are transformed.

    Raises MethodError when `edges` do not ascend between 0 and 1, `predictors` is not a tuple of one predictor more
    than there are edges, one of them has bands of its own or asks for Gram matrices, or two are made for trajectories
    of different lengths.
    """

    name: ClassVar[str] = "banded"
    needs_gram: ClassVar[bool] = False

    edges: tuple[float, ...]
    predictors: tuple[Predictor, ...]

    def __post_init__(self) -> None:
        check_edges("Banded", self.edges)
        _check_count(self.edges, self.predictors)
        for index, predictor in enumerate(self.predictors):
            check_member("Banded", f"predictors[{index}]", predictor, bands=1)
            check_length(predictor, self.num_steps)

    @property
    def history(self) -> int:
        """As many features as the most demanding band reads."""
        return max(predictor.history for predictor in self.predictors)

    @property
    def per_site(self) -> bool:
        """Whether any band has scalars of its own for each site."""
        return any(predictor.per_site for predictor in self.predictors)

    @property
    def num_steps(self) -> int | None:
        """The length of the trajectories that a band is made for, None for any."""
        return next((length for length in map(length_of, self.predictors) if length is not None), None)

    def table(self, computed: Sequence[int], step: int) -> Coefficients:
        """Return one row for each band, of each site if a band's predictor tells sites apart.

        Raises MethodError when two bands tell apart different numbers of sites, and whatever the bands' own predictors
        raise, TrajectoryError when nothing can be predicted.
        """
        tables = [predictor.table(computed, step) for predictor in self.predictors]
        counts = {len(table) for table in tables} - {1}
        if len(counts) > 1:
            raise MethodError(
                f"Bands have scalars for different numbers of sites: {sorted(counts)}.\n"
                f"  where: Banded(edges={self.edges!r}, predictors=...), step {step}\n"
                "  Fit all bands on the same model, or use one row for all sites."
            )
        sites = max(counts, default=1)
        return tuple(tuple(table[site % len(table)][0] for table in tables) for site in range(sites))


def _check_count(edges: tuple[float, ...], predictors: object) -> None:
    if not isinstance(predictors, tuple) or len(predictors) != len(edges) + 1:
        raise MethodError(
            f"Banded needs a tuple of {len(edges) + 1} predictors, one for each band.\n"
            f"  where: Banded(edges={edges!r}, predictors={predictors!r})\n"
            "  n edges part n + 1 bands, the lowest first: Banded((0.1,), (Reuse(), Taylor(2)))."
        )
