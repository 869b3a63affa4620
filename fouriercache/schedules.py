"""When a value is computed: the computed steps of a denoising trajectory.

A step is counted from 0 at the first, noisiest step of a trajectory; a trajectory has `num_steps` of them. Published
code often counts the other way, i = T - 1 ... 0; then step = T - 1 - i.

A new schedule is one frozen dataclass here that has the members of `Schedule`. A schedule that decides while the
trajectory runs returns None from `steps`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar, Literal, Protocol, runtime_checkable

from .checks import check_choice, check_whole
from .errors import MethodError, TrajectoryError


@runtime_checkable
class Schedule(Protocol):
    """Says at which steps a value is computed. Every schedule computes step 0: before it there is nothing to reuse."""

    @property
    def name(self) -> str:
        """The schedule's kind in one word, for tables and manifests."""

    @property
    def needs_num_steps(self) -> bool:
        """Whether `is_computed` can answer only when it is told the number of steps."""

    def steps(self, num_steps: int | None) -> tuple[int, ...] | None:
        """Return the computed steps of a trajectory, ascending, the first always 0; None if they cannot be listed."""

    def is_computed(self, step: int, num_steps: int | None) -> bool:
        """Return whether `step` is computed."""


@dataclass(frozen=True)
class Interval:
    """Compute the first `warmup` steps, then one step in `n`.

    `anchor="first"` counts the interval from the last warm-up step::

        step < warmup or (step - (warmup - 1)) % n == 0

    This is TaylorSeer's rule (TaylorSeer-DiT, cache_functions/cal_type.py), `warmup` its first_enhance: a step is full
    where `i > T - first_enhance - 1`, or where n - 1 steps have been cached since the last full one.

    `anchor="last"` counts it back from the last step, which is therefore always computed::

        step < warmup or (num_steps - 1 - step) % n == 0

    This is FORA's rule (FORA, src/models.py) with `warmup=1`: computed where `i == T - 1 or i % n == 0`.

    Raises MethodError when `n` or `warmup` is not a whole number of at least 1, or `anchor` is another word.
    """

    name: ClassVar[str] = "interval"

    n: int
    warmup: int = 1
    anchor: Literal["first", "last"] = "first"

    def __post_init__(self) -> None:
        check_whole("Interval", "n", self.n, least=1, advice="n=1 computes every step, n=5 one step in five.")
        check_whole(
            "Interval",
            "warmup",
            self.warmup,
            least=1,
            advice="warmup=1 computes only the first step before the interval starts; step 0 has nothing to reuse.",
        )
        check_choice("Interval", "anchor", self.anchor, ("first", "last"))

    @property
    def needs_num_steps(self) -> bool:
        """True when the interval is counted back from the last step."""
        return self.anchor == "last"

    def steps(self, num_steps: int | None) -> tuple[int, ...] | None:
        """Return the computed steps, ascending; None when `num_steps` is None, as the end is not known then.

        Raises MethodError when `num_steps` is not a whole number of at least 1.
        """
        if num_steps is None:
            return None
        _check_num_steps(self, num_steps)
        return tuple(step for step in range(num_steps) if self.is_computed(step, num_steps))

    def is_computed(self, step: int, num_steps: int | None) -> bool:
        """Return whether `step` is computed.

        Raises MethodError when the anchor is the last step and `num_steps` is None, and TrajectoryError when `step` is
        outside the trajectory.
        """
        _check_step(self, step, num_steps)
        if self.anchor == "first":
            return step < self.warmup or (step - (self.warmup - 1)) % self.n == 0
        if num_steps is None:
            raise MethodError(
                "An interval counted from the last step needs the number of steps, and it is not known.\n"
                f"  where: {self!r}, asked about step {step}\n"
                "  Pass num_steps= to optimize, or use anchor='first'."
            )
        return step < self.warmup or (num_steps - 1 - step) % self.n == 0


@dataclass(frozen=True, init=False, repr=False)
class Table:
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
        _check_step(self, step, num_steps)
        return step in self.computed

    def _check_fits(self, num_steps: int | None) -> None:
        if num_steps is None:
            return
        _check_num_steps(self, num_steps)
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


def _check_num_steps(schedule: Schedule, num_steps: int) -> None:
    check_whole(
        type(schedule).__name__, "num_steps", num_steps, least=1, advice="It is the scheduler's number of steps."
    )


def _check_step(schedule: Schedule, step: int, num_steps: int | None) -> None:
    if step < 0 or (num_steps is not None and step >= num_steps):
        length = "" if num_steps is None else f" of {num_steps} steps"
        raise TrajectoryError(
            f"Step {step} is not in a trajectory{length}; steps count from 0.\n"
            f"  where: {schedule!r}\n"
            "  Give num_steps= the number of steps the scheduler really takes, and reset before a new trajectory."
        )
