"""Scalars that were fitted beforehand, for one table of computed steps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import isfinite
from typing import ClassVar

from ..checks import check_edges
from ..errors import MethodError, TrajectoryError
from .base import Coefficients, check_target

_ADVICE = "Calibrated predictors come out of calibration; build one by hand only from its own tables."


@dataclass(frozen=True)
class Calibrated:
    """A table of scalars for each predicted step: L2P (arXiv:2604.26365), F(t) = sum_j W[t, j] H_j, per site and band.

    `computed` are the computed steps that it was fitted for, ascending from 0. `rows` has one table of scalars,
    [sites][bands][features, newest first], for each step that is not computed, in ascending order; so a trajectory has
    len(computed) + len(rows) steps. One site stands for all. `edges` part the bands, see `Banded`.

    Scalars fitted for some gaps are wrong for others, so it refuses to predict when other steps were computed.

    Raises MethodError when `computed` is not ascending from 0, or the tables of `rows` have not all the same sites and
    one row for each band, of at least one finite float and of no more than there are computed steps before.
    """

    name: ClassVar[str] = "calibrated"
    needs_gram: ClassVar[bool] = False

    computed: tuple[int, ...]
    rows: tuple[Coefficients, ...]
    edges: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        check_edges("Calibrated", self.edges)
        _check_computed(self.computed, self.rows)
        sites = len(self.rows[0]) if self.rows else 1
        for step, table in zip(self._predicted, self.rows, strict=True):
            before = sum(done < step for done in self.computed)
            _check_table(table, step, sites, len(self.edges) + 1, before)

    @property
    def history(self) -> int:
        """As many features as the longest row has scalars."""
        return max((len(row) for table in self.rows for site in table for row in site), default=1)

    @property
    def per_site(self) -> bool:
        """Whether each site has scalars of its own."""
        return bool(self.rows) and len(self.rows[0]) > 1

    @property
    def num_steps(self) -> int:
        """The number of steps of the trajectories it was fitted for."""
        return len(self.computed) + len(self.rows)

    @property
    def _predicted(self) -> list[int]:
        return sorted(set(range(self.num_steps)) - set(self.computed))

    def table(self, computed: Sequence[int], step: int) -> Coefficients:
        """Return the scalars fitted for `step`.

        Raises TrajectoryError when nothing was computed before `step`, or the steps computed so far are not those it
        was fitted for, or `step` was computed then, or is outside the trajectory.
        """
        check_target(self, computed, step)
        if step >= self.num_steps or step in self.computed:
            raise self._unfitted(f"It has no scalars for step {step}.", computed)
        expected = tuple(done for done in self.computed if done < step)
        if tuple(computed) != expected:
            raise self._unfitted(f"At step {step}, the steps {tuple(computed)} are computed, not {expected}.", computed)
        return self.rows[self._predicted.index(step)]

    def _unfitted(self, fault: str, computed: Sequence[int]) -> TrajectoryError:
        return TrajectoryError(
            f"Calibrated scalars hold for the computed steps they were fitted for only. {fault}\n"
            f"  where: Calibrated(computed={self.computed!r}, ...), asked after the steps {tuple(computed)}\n"
            f"  Use schedule=Table({self.computed!r}) and {self.num_steps} steps, or calibrate for this schedule."
        )


def _check_computed(computed: object, rows: object) -> None:
    if not isinstance(computed, tuple) or not _are_ascending_from_0(computed):
        raise MethodError(
            f"Calibrated needs computed to be a tuple of ascending steps from 0, got {computed!r}.\n"
            f"  where: Calibrated(computed={computed!r})\n"
            f"  {_ADVICE}"
        )
    if not isinstance(rows, tuple) or computed[-1] >= len(computed) + len(rows):
        given = f"{len(rows)} tables" if isinstance(rows, tuple) else repr(type(rows).__name__)
        raise MethodError(
            f"Calibrated needs rows to be a tuple of one table for each step that is not computed, got {given}.\n"
            f"  where: Calibrated(computed={computed!r})\n"
            f"  Up to step {computed[-1]} there are {computed[-1] + 1 - len(computed)} steps to predict. {_ADVICE}"
        )


def _are_ascending_from_0(steps: tuple[object, ...]) -> bool:
    whole = [step for step in steps if type(step) is int]
    return whole[:1] == [0] and len(whole) == len(steps) and all(before < after for before, after in pairwise(whole))


def _check_table(table: object, step: int, sites: int, bands: int, most: int) -> None:
    """Raise MethodError unless `table` is [sites][bands][1 .. most] finite floats in tuples."""
    if not isinstance(table, tuple) or len(table) != sites or not sites:
        raise _wrong_table(f"not {sites} tuples of bands, one for each site", step)
    if any(not isinstance(site, tuple) or len(site) != bands for site in table):
        raise _wrong_table(f"not {bands} rows, one for each band, at each site", step)
    for row in (row for site in table for row in site):
        if not isinstance(row, tuple) or not 1 <= len(row) <= most:
            raise _wrong_table(f"a row that is not of 1 to {most} scalars, one for a computed step before it", step)
        if any(type(scalar) is not float or not isfinite(scalar) for scalar in row):
            raise _wrong_table(f"a scalar that is no finite float, in {row!r}", step)


def _wrong_table(fault: str, step: int) -> MethodError:
    return MethodError(f"The table for a predicted step has {fault}.\n  where: Calibrated, step {step}\n  {_ADVICE}")
