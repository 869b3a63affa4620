"""What every predictor answers, and the check they share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from itertools import pairwise
from typing import ClassVar, Protocol, TypeAlias, runtime_checkable

from ..errors import TrajectoryError

Coefficients: TypeAlias = tuple[tuple[tuple[float, ...], ...], ...]
"""Scalars of one prediction, [sites][bands][features]: one site stands for all, features newest first."""


@runtime_checkable
class Predictor(Protocol):
    """Turns step indices into the scalars of a linear prediction."""

    @property
    def name(self) -> str:
        """The predictor's kind in one word, for tables and manifests."""

    @property
    def history(self) -> int:
        """K, the number of computed features it reads at most."""

    @property
    def edges(self) -> tuple[float, ...]:
        """Borders between spatial bands, ascending, as shares of the token grid's largest radial frequency.

        n borders part n + 1 bands, the lowest first, each with scalars of its own. () is one band: no transform.
        """

    def table(self, computed: Sequence[int], step: int) -> Coefficients:
        """Return the scalars of the prediction, [sites][bands][at most K], the newest computed feature's first.

        `computed` holds all steps computed so far in this trajectory, ascending, at least one; `step` is predicted.
        One site stands for all. Features older than the scalars returned do not enter the prediction.
        """


class ScalarPredictor(ABC):
    """Base of predictors with the same scalars for every site and every spatial frequency."""

    edges: ClassVar[tuple[float, ...]] = ()

    @abstractmethod
    def coefficients(self, computed: Sequence[int], step: int) -> tuple[float, ...]:
        """Return at most K scalars c_k, the one for the newest computed feature first; see `Predictor.table`."""

    def table(self, computed: Sequence[int], step: int) -> Coefficients:
        """Return the scalars as those of one site and one band."""
        return ((self.coefficients(computed, step),),)


def check_target(predictor: Predictor, computed: Sequence[int], step: int) -> None:
    """Raise TrajectoryError when nothing is computed, `computed` is not ascending, or `step` is not behind it."""
    if len(computed) == 0:
        raise TrajectoryError(
            "Nothing can be predicted before the first step is computed.\n"
            f"  where: {predictor!r}, asked for step {step}\n"
            "  Compute step 0 of every trajectory."
        )
    recent = computed[-predictor.history - 1 :]
    if any(after <= before for before, after in pairwise(recent)) or step < recent[-1]:
        raise TrajectoryError(
            "A prediction goes forward from computed steps in ascending order.\n"
            f"  where: {predictor!r}, asked for step {step} after the computed steps {tuple(computed)}\n"
            "  Begin a new trajectory when the steps start again."
        )
