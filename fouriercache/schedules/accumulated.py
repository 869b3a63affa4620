"""Decide while the trajectory runs: compute when enough change has come together."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import ClassVar

from ..checks import check_number, check_whole
from ..errors import MethodError
from ..indicators import Indicator, Modulated
from .base import Decision, check_num_steps, check_step
from .polynomial import Polynomial


@dataclass(frozen=True)
class Accumulated:
    """Compute a step when the indicator has moved far enough since the last computed one.

    At each step the indicator m is measured, and its relative change added to what has come together before::

        d = mean |m_t - m_{t-1}| / mean |m_{t-1}|        over the whole tensor, the batch included
        accumulated += rescale(d)
        reuse if accumulated < threshold, else compute, and accumulated = 0

    This is TeaCache's rule (TeaCache4FLUX/teacache_flux.py). m_{t-1} is the indicator of the step before, whether that
    was computed or not. The `first` steps and the `last` ones are always computed, and what has come together is then
    0. `max_skips` is how many steps in a row may be left out, None for any number. Each pass of a step decides for
    itself; passes that are one batch decide together.

    Raises MethodError when a field has a value that makes no sense.
    """

    name: ClassVar[str] = "accumulated"

    indicator: Indicator = field(default_factory=Modulated)
    threshold: float = 0.2
    rescale: Polynomial = field(default=Polynomial((1.0, 0.0)))
    first: int = 1
    last: int = 1
    max_skips: int | None = None

    def __post_init__(self) -> None:
        if not _is_value(self.indicator, Indicator):
            raise _no_part("an indicator", "indicator", self.indicator, "indicator=Modulated()")
        if not _is_value(self.rescale, Polynomial):
            raise _no_part(
                "a polynomial", "rescale", self.rescale, "rescale=Polynomial((1.0, 0.0)), which changes nothing"
            )
        check_number(
            "Accumulated",
            "threshold",
            self.threshold,
            least=0.0,
            advice="0.0 computes every step; more computes fewer.",
        )
        check_whole("Accumulated", "first", self.first, least=1, advice="The first step has nothing to reuse.")
        check_whole("Accumulated", "last", self.last, least=0, advice="last=0 leaves the last step to the threshold.")
        if self.max_skips is not None:
            advice = "max_skips=2 leaves out at most two steps in a row, None any number."
            check_whole("Accumulated", "max_skips", self.max_skips, least=1, advice=advice)

    @property
    def needs_num_steps(self) -> bool:
        """True when the last steps are computed whatever is measured."""
        return self.last > 0

    def steps(self, num_steps: int | None) -> tuple[int, ...] | None:
        """Return None: which steps are computed shows when they run.

        Raises MethodError when `num_steps` is given and is not a whole number of at least 1.
        """
        if num_steps is not None:
            check_num_steps(self, num_steps)
        return None

    def decide(self, step: int, num_steps: int | None, before: Decision, distance: Callable[[], float]) -> Decision:
        """Say whether `step` is computed; measure only where it depends on that.

        Raises MethodError when the last steps are computed whatever is measured and `num_steps` is None, and
        TrajectoryError when `step` is outside the trajectory or the distance outside the polynomial's range.
        """
        check_step(self, step, num_steps)
        if step < self.first or self._is_last(step, num_steps):
            return Decision(step, is_computed=True)
        measured = distance()
        rescaled = self.rescale.rescale(measured)
        accumulated = before.accumulated + rescaled.value
        skipped = before.skipped + 1
        # written so that what is no number is computed
        is_reused = accumulated < self.threshold and (self.max_skips is None or skipped <= self.max_skips)
        if is_reused:
            return Decision(step, False, measured, accumulated, skipped, rescaled.is_clamped)
        return Decision(step, True, measured, is_clamped=rescaled.is_clamped)

    def _is_last(self, step: int, num_steps: int | None) -> bool:
        if not self.last:
            return False
        if num_steps is None:
            raise MethodError(
                "The last steps are computed whatever is measured, and which they are is not known.\n"
                f"  where: {self!r}, asked about step {step}\n"
                "  Pass num_steps= to optimize, or last=0 to leave them to the threshold."
            )
        return step >= num_steps - self.last


def _is_value(value: object, kind: type) -> bool:
    return isinstance(value, kind) and not isinstance(value, type)


def _no_part(wanted: str, field_name: str, value: object, example: str) -> MethodError:
    return MethodError(
        f"Accumulated needs {wanted}, got {value!r} of type {type(value).__name__}.\n"
        f"  where: Accumulated({field_name}={value!r})\n"
        f"  Pass {example}."
    )
