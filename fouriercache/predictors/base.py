"""What every predictor answers, and the check they share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from itertools import pairwise
from typing import ClassVar, Protocol, TypeAlias, runtime_checkable

from ..errors import MethodError, TrajectoryError

Coefficients: TypeAlias = tuple[tuple[tuple[float, ...], ...], ...]
"""Scalars of one prediction, [sites][bands][features]: one site stands for all, features newest first."""

Grams: TypeAlias = tuple[tuple[tuple[float, ...], ...], ...]
"""Inner products of the features kept at each site, [sites][features][features], newest first."""


@runtime_checkable
class Predictor(Protocol):
    """Turns step indices into the scalars of a linear prediction.

    One that is made for trajectories of a certain length says so in a further member, `num_steps`; see `length_of`. Its
    `preset`, if it has one, names the preset that makes it for a number of steps.
    """

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

    @property
    def per_site(self) -> bool:
        """Whether each site may have scalars of its own; False where one site stands for all."""

    @property
    def needs_gram(self) -> bool:
        """Whether `table` takes the Gram matrices of the kept features as a third argument; False for almost all."""

    def table(self, computed: Sequence[int], step: int) -> Coefficients:
        """Return the scalars of the prediction, [sites][bands][at most K], the newest computed feature's first.

        `computed` holds all steps computed so far in this trajectory, ascending, at least one; `step` is predicted.
        One site stands for all. Features older than the scalars returned do not enter the prediction.
        """


class GramPredictor(Predictor, Protocol):
    """A predictor whose scalars depend on the features through their inner products: one with `needs_gram`."""

    def table(self, computed: Sequence[int], step: int, grams: Grams = ()) -> Coefficients:
        """Return the scalars of the prediction; `grams` covers the newest min(K, len(computed)) features."""


class ScalarPredictor(ABC):
    """Base of predictors with the same scalars for every site and every spatial frequency."""

    edges: ClassVar[tuple[float, ...]] = ()
    per_site: ClassVar[bool] = False
    needs_gram: ClassVar[bool] = False

    @abstractmethod
    def coefficients(self, computed: Sequence[int], step: int) -> tuple[float, ...]:
        """Return at most K scalars c_k, the one for the newest computed feature first; see `Predictor.table`."""

    def table(self, computed: Sequence[int], step: int) -> Coefficients:
        """Return the scalars as those of one site and one band."""
        return ((self.coefficients(computed, step),),)


_SHORT = 16
"""A history that any trajectory may ask for: what a short one never fills costs next to nothing."""


def length_of(predictor: Predictor) -> int | None:
    """Return the number of steps of the trajectories that a predictor is made for, None if it serves any."""
    length: int | None = getattr(predictor, "num_steps", None)
    return length


def check_length(predictor: Predictor, num_steps: int | None) -> None:
    """Raise MethodError when a predictor does not fit trajectories of `num_steps` steps; any fits None.

    It may be made for another length, or read far more computed features than there are steps.
    """
    if num_steps is None:
        return
    length = length_of(predictor)
    if length not in (None, num_steps):
        preset = getattr(predictor, "preset", None)
        made = f", as fc.{preset}(num_steps={num_steps}) does" if preset else ""
        raise MethodError(
            f"The predictor {predictor.name!r} is made for trajectories of {length} steps, and these have "
            f"{num_steps}.\n"
            f"  where: {_shown(predictor)}\n"
            f"  Make it for {num_steps} steps{made}, or sample in {length}."
        )
    if predictor.history > max(num_steps, _SHORT):
        raise MethodError(
            f"The predictor {predictor.name!r} reads up to {predictor.history} computed features, and a trajectory has "
            f"{num_steps} steps.\n"
            f"  where: {_shown(predictor)}\n"
            "  Lower its order or history: each feature is a tensor in memory for every site."
        )


def check_target(predictor: Predictor, computed: Sequence[int], step: int) -> None:
    """Raise TrajectoryError when nothing is computed, `computed` is not ascending, or `step` is not behind it."""
    if len(computed) == 0:
        raise TrajectoryError(
            "Nothing can be predicted before the first step is computed.\n"
            f"  where: {_shown(predictor)}, asked for step {step}\n"
            "  Compute step 0 of every trajectory."
        )
    recent = computed[-predictor.history - 1 :]
    if any(after <= before for before, after in pairwise(recent)) or step < recent[-1]:
        raise TrajectoryError(
            "A prediction goes forward from computed steps in ascending order.\n"
            f"  where: {_shown(predictor)}, asked for step {step} after the computed steps {tuple(computed)}\n"
            "  Begin a new trajectory when the steps start again."
        )


def check_member(owner: str, field: str, member: object, *, bands: int | None = None) -> None:
    """Raise MethodError unless `member` is a predictor that another can be built on, of `bands` bands if given."""
    where = f"  where: {field} of {owner}, {member!r}\n"
    if isinstance(member, type) or not isinstance(member, Predictor):
        raise MethodError(
            f"{owner} needs {field} to be a predictor, got {member!r}.\n{where}  Construct one, as in Taylor(order=2)."
        )
    if member.needs_gram:
        raise MethodError(
            f"{owner} cannot hold a predictor that asks for Gram matrices of whole features.\n{where}"
            "  Use it by itself, as the method's predictor."
        )
    if bands is not None and len(member.edges) + 1 != bands:
        raise MethodError(
            f"{owner} needs {field} to have {bands} band, {member.name} has {len(member.edges) + 1}.\n{where}"
            "  Put the predictors of all bands side by side in one Banded."
        )


def _shown(predictor: Predictor) -> str:
    """Return the predictor's text, cut short: that of a fitted table is long."""
    text = repr(predictor)
    return text if len(text) <= 200 else f"{text[:200]}..."
