"""What every schedule answers, and the checks they share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple, Protocol, runtime_checkable

from ..checks import check_whole
from ..errors import TrajectoryError
from ..indicators import Indicator


@dataclass(frozen=True, slots=True)
class Decision:
    """What a schedule decided about one step of one pass, and all that it has to know of it at the next one.

    `distance` is how far the indicator moved since the last step, None where nobody asked. `accumulated` is what has
    come together since the last computed step and `skipped` how many steps in a row are not computed, this one
    included; both begin again at a computed step. `is_clamped` says that the distance was outside the range that a
    calibrated polynomial was fitted on, and was moved to its end, or that the polynomial came to less than 0.
    """

    step: int
    is_computed: bool
    distance: float | None = None
    accumulated: float = 0.0
    skipped: int = 0
    is_clamped: bool = False


@runtime_checkable
class Schedule(Protocol):
    """Says at which steps a value is computed. Every schedule computes step 0: before it there is nothing to reuse."""

    @property
    def name(self) -> str:
        """The schedule's kind in one word, for tables and manifests."""

    @property
    def needs_num_steps(self) -> bool:
        """Whether `decide` can answer only when it is told the number of steps."""

    @property
    def indicator(self) -> Indicator | None:
        """What is measured at every step; None when the decision does not depend on it."""

    def steps(self, num_steps: int | None) -> tuple[int, ...] | None:
        """Return the computed steps of a trajectory, ascending, the first always 0; None if they cannot be listed."""

    def decide(self, step: int, num_steps: int | None, before: Decision, distance: Callable[[], float]) -> Decision:
        """Say whether `step` is computed.

        `before` is the decision about the step before, of the same pass. `distance` measures how far the indicator
        moved since; it costs a look at the device, so it is asked only where the answer depends on it.
        """


class FixedSchedule(ABC):
    """Base of schedules that know a step by its number alone."""

    indicator: ClassVar[None] = None

    @abstractmethod
    def is_computed(self, step: int, num_steps: int | None) -> bool:
        """Return whether `step` is computed."""

    def decide(
        self,
        step: int,
        num_steps: int | None,
        before: Decision,  # noqa: ARG002  # what was decided before does not matter
        distance: Callable[[], float],  # noqa: ARG002  # nor what is measured
    ) -> Decision:
        """Answer as `is_computed` does."""
        return Decision(step, self.is_computed(step, num_steps))


class Place(NamedTuple):
    """Where a site stands: the number of its block in the order of execution, from 0, and its kind ("mlp", ...).

    `tokens` is how many tokens it has, where a pass has proved that they can be computed one by one; else 0.
    """

    layer: int
    kind: str
    tokens: int = 0


@runtime_checkable
class SiteSchedule(Schedule, Protocol):
    """A schedule that computes single sites at steps that are not computed as a whole."""

    def refreshed(self, step: int, num_steps: int | None, places: Sequence[Place]) -> tuple[int, ...]:
        """Return the positions in `places` of the sites that are computed at `step`, ascending.

        It is asked about steps at which the schedule has decided not to compute all.
        """


@runtime_checkable
class TokenCounts(Protocol):
    """Says how many tokens of a site are computed afresh at a step at which the site is not."""

    @property
    def needs_num_steps(self) -> bool:
        """Whether `count` can answer only when it is told the number of steps."""

    @property
    def is_static(self) -> bool:
        """Whether a site's count is the same at every step, so that a graph can have it as a size."""

    def count(self, place: Place, step: int, num_steps: int | None) -> int:
        """Return the number of tokens computed at `step`.

        Raises MethodError when they are more than the site has.
        """


def check_num_steps(schedule: Schedule, num_steps: int) -> None:
    """Raise MethodError unless `num_steps` is a whole number of at least 1."""
    check_whole(
        type(schedule).__name__, "num_steps", num_steps, least=1, advice="It is the scheduler's number of steps."
    )


def check_step(schedule: Schedule, step: int, num_steps: int | None) -> None:
    """Raise TrajectoryError when `step` is outside a trajectory of `num_steps`."""
    if step < 0 or (num_steps is not None and step >= num_steps):
        length = "" if num_steps is None else f" of {num_steps} steps"
        raise TrajectoryError(
            f"Step {step} is not in a trajectory{length}; steps count from 0.\n"
            f"  where: {schedule!r}\n"
            "  Give num_steps= the number of steps the scheduler really takes, and reset before a new trajectory."
        )
