"""What a stepper runs, whoever made it: programs on a backend, or graphs of a bundle on an engine."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor

from fouriercache.calls import Call
from fouriercache.program import Input, Output, Slot
from fouriercache.questions import Questions
from fouriercache.schedules import Place
from fouriercache.steps import ModeKey


class Executable(Protocol):
    """Something that runs: one tensor for each of `inputs`, in their order, gives one for each of `outputs`."""

    @property
    def inputs(self) -> tuple[Input, ...]:
        """What it takes."""

    @property
    def outputs(self) -> tuple[str, ...]:
        """The names of what it gives; () when it computes nothing, and is never called."""

    def __call__(self, values: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Run."""

    def version(self) -> tuple[int, ...]:
        """Changes whenever a weight does, so that what was computed with the old one is computed again."""


class Nothing:
    """The executable of a part that is empty."""

    inputs: tuple[Input, ...] = ()
    outputs: tuple[str, ...] = ()

    def __call__(self, values: Sequence[Tensor]) -> tuple[Tensor, ...]:  # noqa: ARG002  # there are none
        """Give nothing."""
        return ()

    def version(self) -> tuple[int, ...]:
        """Always the same."""
        return ()


@dataclass(frozen=True)
class AheadParts:
    """A cached step in two parts, ready to run; see `AheadPrograms`."""

    sums: Callable[[int], Executable]
    shared: tuple[Input, ...]
    own: tuple[Input, ...]
    outputs: tuple[str, ...]
    rest: Executable


@dataclass(frozen=True)
class Parts:
    """One step mode, ready to run; see `StepPrograms` for the three parts and `rows`.

    Attributes:
        outputs: what `moving` gives. table: the shape of its input of the role "coefficients"; () if it has none.
        ahead: the moving part cut in two, for steps that are known; asked for when there are some. None: it is not cut.
    """

    context: Executable
    timed: Executable
    moving: Executable
    rows: frozenset[str] | None
    outputs: tuple[Output, ...]
    table: tuple[int, ...] = ()
    ahead: Callable[[], AheadParts | None] = lambda: None


@dataclass(frozen=True)
class ProbeParts:
    """What looks at an adaptive schedule's indicator, ready to run; see `ProbePrograms`.

    Attributes:
        filters: size and dtype of each of the indicator's filters, the inputs of the role "control", in order.
    """

    parts: Parts
    first: Executable
    filters: tuple[tuple[int, torch.dtype], ...]


@dataclass(frozen=True)
class StepForm:
    """What is known of one form of call, and what runs its steps.

    Attributes:
        inputs: the call's tensors, in order. slots: what each input of the role "slot" holds, by its name.
        columns: for each site, the outputs that are kept of it. places: where each site stands.
        keys: the modes that are built at once. build: makes any mode ready.
        sizes: the call's dynamic sizes; None for a call of another form. rebuild: from the flat results to what the
            model returns.
        questions: what the model asked of its inputs; None if it asked nothing.
        has_gradients: whether results have gradients; where they have none, nothing is run again for their sake.
        gate: held while a step runs, so that nobody swaps the weights meanwhile.
    """

    inputs: tuple[Input, ...]
    slots: Mapping[str, Slot]
    columns: tuple[tuple[str, ...], ...]
    places: tuple[Place, ...]
    keys: tuple[ModeKey, ...]
    build: Callable[[ModeKey], Parts]
    probe: ProbeParts | None
    sizes: Callable[[Call], tuple[int, ...] | None]
    rebuild: Callable[[Sequence[Tensor]], Any]
    questions: Questions | None = None
    has_gradients: bool = True
    gate: AbstractContextManager[None] = field(default_factory=nullcontext)
