"""What a method saves in a trajectory, counted on the graphs before anything runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from fouriercache.cost import bytes_kept
from fouriercache.runtime.module import OptimizedModule


@dataclass(frozen=True)
class Gain:
    """A trajectory's cost, relative to computing every step.

    Attributes:
        steps: of a trajectory.
        computed: how many of them are computed; None when that shows as they run, or cached steps compute some tokens.
        flops: FLOPs relative to those of as many computed steps; None likewise.
        kept: bytes of features that one pass keeps, at the batch size of the capture.
    """

    steps: int
    computed: int | None
    flops: float | None
    kept: int

    def as_dict(self) -> dict[str, Any]:
        """The values by name."""
        return vars(self)


def gain_of(fast: OptimizedModule, steps: int) -> Gain:
    """Count what a trajectory of `steps` steps costs.

    Raises:
        NotCapturedError: nothing has been captured yet.
    """
    modes = fast.report.modes
    columns = {output.name for output in fast.program("compute").outputs if output.role == "slot"}
    kept = bytes_kept(fast.program("canonical"), columns)
    schedule = fast.method.schedule.steps(steps)
    if schedule is None or "partial" in modes:
        return Gain(steps, None, None, kept)
    full, cached, computed = modes["compute"].flops, modes["reuse"].flops, len(schedule)
    return Gain(steps, computed, (computed * full + (steps - computed) * cached) / (steps * full), kept)
