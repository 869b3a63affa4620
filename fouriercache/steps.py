"""The programs of one capture: the canonical one, and for each step mode the parts that run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from fouriercache.capture import Capture
from fouriercache.methods import Method
from fouriercache.program import Input, NoMatch, Program, Site
from fouriercache.schedules import Place

Mode = Literal["compute", "reuse", "partial"]
ModeKey = tuple[Mode, tuple[int, ...]]
"""A mode, and the positions of the sites that are computed in it all the same."""

MODES: tuple[Mode, ...] = ("compute", "reuse")
"""The modes of every method; see `modes_of`."""


def modes_of(method: Method) -> tuple[Mode, ...]:
    """Return the modes of a method: one that computes some tokens afresh has "partial", too."""
    return (*MODES, "partial") if method.tokens.is_partial else MODES


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
class AheadPrograms:
    """A cached step in two parts, where the timesteps of those behind it are known.

    Attributes:
        sums: what a step needs of kept features, gates and scalars. own: those of its inputs that differ from step to
            step.
        repeated: the same for several steps, given how many. Its inputs are those that the steps share, then those that
            are each step's own; its outputs are those of the first step, of the second, and so on.
        rest: makes the step of its latents and sums, which come in as inputs of the role "ahead".
    """

    sums: Program
    own: tuple[Input, ...]
    repeated: Callable[[int], Program]
    rest: Program


@dataclass(frozen=True)
class Steps:
    """What one capture became: `canonical` with both alternatives in the open, and the parts for each mode.

    `probe` is there for schedules that decide while the trajectory runs.

    `outline` builds the single-graph form, one `torch.cond` for the whole step; it takes time and is seldom wanted.
    `mixed` builds a cached mode in which single sites are computed, given their positions in `canonical.sites`; few
    methods have such steps, and which sites it will be is known when the step comes. `ahead` cuts the "reuse" mode for
    trajectories whose timesteps are known, given whether calls are fused; or says why that saves
    nothing.
    """

    capture: Capture
    canonical: Program
    modes: Mapping[Mode, StepPrograms]
    outline: Callable[[], Program]
    mixed: Callable[[Mode, tuple[int, ...]], StepPrograms]
    ahead: Callable[[bool], AheadPrograms | NoMatch]
    probe: ProbePrograms | None = None

    @cached_property
    def places(self) -> tuple[Place, ...]:
        """Where each site stands, in the order of `canonical.sites`."""
        layers = {block.path: number for number, block in enumerate(self.canonical.blocks)}
        chosen = {node.name for node in self.canonical.inputs_of("control")}
        return tuple(
            Place(layers.get(site.block, 0), site.kind, _tokens_of(site) if f"ranks_{position}" in chosen else 0)
            for position, site in enumerate(self.canonical.sites)
        )


def _tokens_of(site: Site) -> int:
    tokens = site.shape[1]
    assert isinstance(tokens, int)
    return tokens
