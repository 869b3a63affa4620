"""Steps given as a list."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

from ..checks import check_whole
from ..errors import MethodError
from .base import FixedSchedule, check_num_steps, check_step


@dataclass(frozen=True, init=False, repr=False)
class Table(FixedSchedule):
    """Compute exactly the listed steps: a schedule that was calibrated, searched or written by hand.

    `steps` is any sequence of ints, ascending and beginning with 0. It is kept as the tuple `computed`, because
    `steps` is a question every schedule answers. Steps after the last listed one are never computed.

    Raises MethodError when the list is empty, not ascending, has a step twice, lacks step 0, or holds a non-int.
    """

    name: ClassVar[str] = "table"
    needs_num_steps: ClassVar[bool] = False

    computed: tuple[int, ...]

    def __init__(self, steps: Sequence[int]) -> None:
        _check_table(steps)
        object.__setattr__(self, "computed", tuple(steps))  # how a frozen dataclass sets what its own __init__ made

    def __repr__(self) -> str:
        return f"Table({self.computed!r})"

    def steps(self, num_steps: int | None) -> tuple[int, ...]:
        """Return the listed steps.

        Raises MethodError when `num_steps` is given and is not a whole number of at least 1, or a listed step is not
        below it.
        """
        self._check_fits(num_steps)
        return self.computed

    def is_computed(self, step: int, num_steps: int | None) -> bool:
        """Return whether `step` is listed.

        Raises MethodError as `steps` does, and TrajectoryError when `step` is outside the trajectory.
        """
        self._check_fits(num_steps)
        check_step(self, step, num_steps)
        return step in self.computed

    def _check_fits(self, num_steps: int | None) -> None:
        if num_steps is None:
            return
        check_num_steps(self, num_steps)
        if self.computed[-1] >= num_steps:
            late = [step for step in self.computed if step >= num_steps]
            raise MethodError(
                f"A table lists steps that a trajectory of {num_steps} steps does not have: {late}.\n"
                f"  where: {self!r} with num_steps={num_steps}\n"
                f"  Steps count from 0, so the last one is {num_steps - 1}: make the table for this number of steps."
            )


def _check_table(steps: object) -> None:
    advice = "List the computed steps in ascending order, each once and beginning with 0: Table((0, 1, 5, 9))."
    if not isinstance(steps, Sequence) or isinstance(steps, str | bytes):
        raise MethodError(
            f"Table needs a list or tuple of steps, got {steps!r} of type {type(steps).__name__}.\n"
            f"  where: Table({steps!r})\n"
            f"  {advice}"
        )
    if not steps:
        raise MethodError(
            f"Table has no steps, so nothing would ever be computed.\n  where: Table({steps!r})\n  {advice}"
        )
    for index, step in enumerate(steps):
        check_whole("Table", f"steps[{index}]", step, least=0, advice=advice)
    for index, (before, after) in enumerate(pairwise(steps), start=1):
        if after <= before:
            fault = "has a step twice" if after == before else "is not in ascending order"
            raise MethodError(
                f"Table {fault}: {after} follows {before}.\n  where: steps[{index}] of Table({steps!r})\n  {advice}"
            )
    if steps[0] != 0:
        raise MethodError(
            f"Table lacks step 0, and the first step has nothing to reuse.\n"
            f"  where: Table({steps!r}) begins with {steps[0]}\n"
            f"  {advice}"
        )
