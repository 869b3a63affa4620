"""The programs of one capture: the canonical one, and for each step mode the parts that run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from fouriercache.capture import Capture
from fouriercache.program import Program

Mode = Literal["compute", "reuse"]
MODES: tuple[Mode, ...] = ("compute", "reuse")


@dataclass(frozen=True)
class StepPrograms:
    """One step mode, in three parts that run one after the other.

    Attributes:
        whole: the mode's program before it was cut, for reading and counting.
        context: what depends on conditioning alone; runs once for a conditioning.
        timed: what depends on the timestep as well; runs once for a (timestep, conditioning) pair.
        moving: the rest; runs in every call.
        rows: names of the inputs of `timed` that have a row for each sample. None when its shapes tell that all steps
            of a trajectory cannot be one batch.
    """

    whole: Program
    context: Program
    timed: Program
    moving: Program
    rows: frozenset[str] | None


@dataclass(frozen=True)
class ProbePrograms:
    """What an adaptive schedule looks at, cut as a step mode is.

    Attributes:
        parts: return the new indicator and its distance from the last one.
        first: the moving part without the distance, for steps where nobody asks for it; reads no last indicator.
    """

    parts: StepPrograms
    first: Program


@dataclass(frozen=True)
class Steps:
    """What one capture became: `canonical` with both alternatives in the open, and the parts for each mode.

    `probe` is there for schedules that decide while the trajectory runs.

    `outline` builds the single-graph form, one `torch.cond` for the whole step; it takes time and is seldom wanted.
    """

    capture: Capture
    canonical: Program
    modes: Mapping[Mode, StepPrograms]
    outline: Callable[[], Program]
    probe: ProbePrograms | None = None
