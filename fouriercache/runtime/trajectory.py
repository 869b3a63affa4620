"""What a running trajectory owns: the captures it was begun with, and what each of its passes holds."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeAlias

from torch import Tensor

from fouriercache.calls import Call, detached
from fouriercache.errors import TrajectoryError
from fouriercache.live_weights import changed_structure
from fouriercache.runtime.clock import PassKey, Position
from fouriercache.runtime.conditioning import Remembered
from fouriercache.runtime.pass_state import PassState
from fouriercache.runtime.prompt import check_prompt
from fouriercache.runtime.session import Plan
from fouriercache.runtime.stepper import InputNames, Outcome, Stepper


class Source(Protocol):
    """What a trajectory has its steppers from: captures of the model as it was when the trajectory began."""

    def find(self, call: Call) -> Stepper | None:
        """Return what runs the call; None when nothing does yet."""

    def check(self) -> None:
        """Raise CaptureError when the model is no more what its captures are of, so that no step may be run."""


Serve: TypeAlias = Callable[[Call, Mapping[str, Any]], tuple[Stepper, Source]]
"""Returns what runs a call on the model as it is now, captured if need be, and where that is from."""


@dataclass
class Trajectory:
    """What a running trajectory owns. One that has not begun has no source and no passes.

    Attributes:
        source: where its steppers are from. It is kept to the end, so that a change of the model that another
            trajectory has taken up is nothing to this one.
        passes: what each pass holds.
        sample, conditioning: those of the last call.
        position: where the last call stood. last: its paths, its form, and the names of its inputs.
    """

    source: Source | None = None
    passes: dict[PassKey, PassState] = field(default_factory=dict)
    sample: Remembered | None = None
    conditioning: Remembered | None = None
    position: Position | None = None
    last: tuple[tuple[str, ...], object, InputNames] | None = None

    def find(self, call: Call) -> tuple[Stepper, Source] | None:
        """Return what runs the call, if it is among what the trajectory was begun with."""
        stepper = None if self.source is None else self.source.find(call)
        return None if stepper is None or self.source is None else (stepper, self.source)

    def check(self, source: Source) -> None:
        """Raise CaptureError unless the trajectory may go on, with what is from `source`."""
        if self.source is not source:
            raise changed_structure("seen when a trajectory of another session began")
        source.check()

    def state(self, key: PassKey, stepper: Stepper) -> PassState:
        """Return what a pass holds, for a step that `stepper` runs: nothing that another one made ahead.

        Raises:
            TrajectoryError: the kept features are not those that the stepper reads.
        """
        state = self.passes.get(key, PassState())
        if state.made_by is stepper.mark:
            return state
        if state.ring and state.ring.keys() != stepper.kept:
            raise TrajectoryError(
                "The model was captured again in mid-trajectory, and the new graphs read other features than it kept.\n"
                f"  where: pass {key!r}, kept: {', '.join(state.ring)}; read: {', '.join(stepper.kept)}\n"
                "  Change the model between trajectories, or reset() the session."
            )
        state.hoisted.clear()
        state.made_by = stepper.mark
        return state

    def is_last_sample(self, sample: tuple[Tensor, ...]) -> bool:
        """Whether the last call had these values as its sample."""
        return self.sample is not None and self.sample.equals(sample)

    def is_last_conditioning(self, conditioning: tuple[Tensor, ...]) -> bool:
        """Whether the last call had these values as its conditioning."""
        return self.conditioning is not None and self.conditioning.equals(conditioning)

    def may_continue(self, key: PassKey, sample: tuple[Tensor, ...]) -> bool:
        """Whether the sample may come of that of the pass's last step."""
        state = self.passes.get(key)
        return state is None or state.sample is None or state.sample.may_become(sample)

    def commit(
        self, plan: Plan, state: PassState, outcome: Outcome, stepper: Stepper, sample: tuple[Tensor, ...]
    ) -> None:
        """Take over what a step gave."""
        self.passes[plan.position.pass_key] = state
        state.questions = stepper.questions
        for name, value in outcome.values.items():
            if name not in stepper.unread:
                kept = state.ring.setdefault(name, [])
                kept.insert(0, *detached((value,)))
                del kept[stepper.depths[name] :]
        state.states.update((name, value.detach()) for name, value in outcome.states.items())
        state.sample = self.sample = Remembered.of(sample)
        self.conditioning, self.position = state.conditioning, plan.position

    def remembered(self) -> Iterator[Remembered]:
        """All that was kept of inputs, to compare later ones with."""
        for state in self.passes.values():
            yield from (found for found in (state.sample, state.conditioning) if found is not None)
        yield from (found for found in (self.sample, self.conditioning) if found is not None)


def forget_other_conditioning(
    state: PassState, names: InputNames, conditioning: tuple[Tensor, ...], *, is_prepared: bool
) -> None:
    """Drop what was made of other conditioning.

    Raises:
        TrajectoryError: an input that says what is asked for has changed, and the steps were not prepared.
    """
    if state.conditioning is not None and not is_prepared:
        check_prompt(names.conditioning, state.conditioning, conditioning)
    if state.conditioning is None or not state.conditioning.equals(conditioning):
        state.drop_hoisted()
    elif state.conditioning.stands_for(conditioning):
        return
    state.conditioning = Remembered.of(conditioning)
