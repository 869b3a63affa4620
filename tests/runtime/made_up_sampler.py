"""Samplers made up for the tests of the runtime's clock and session: they call, and keep labels for tensors."""

from __future__ import annotations

import re
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import pytest

from fouriercache.errors import TrajectoryError
from fouriercache.runtime.call import StepCall
from fouriercache.runtime.clock import Clock, PassKey
from fouriercache.runtime.session import Plan, Session


class Sampler:
    """Tells a clock of calls and commits each; `stands` is what the clock made of them."""

    def __init__(self, **options: Any) -> None:
        self.clock = Clock(**options)
        self.last: tuple[object, object] = (None, None)
        self.stands: list[tuple[int, int | str, bool]] = []

    def call(
        self,
        timestep: float | tuple[float, ...],
        sample: object = None,
        conditioning: object = "prompt",
        context: str | None = None,
        continues: bool = True,
    ) -> None:
        values = tuple(map(float, timestep)) if isinstance(timestep, tuple) else (float(timestep),)
        sample = ("at", values) if sample is None else sample
        last_sample, last_conditioning = self.last
        call = StepCall(
            values,
            context,
            "signature",
            lambda: last_sample == sample,
            lambda: last_conditioning == conditioning,
            lambda: continues,
        )
        position = self.clock.begin(call)
        self.clock.commit(position)
        self.last = (sample, conditioning)
        self.stands.append((position.step, position.pass_key, position.is_new_trajectory))

    def run(self, timesteps: Sequence[float | tuple[float, ...]], passes: int = 1) -> None:
        for timestep in timesteps:
            for number in range(passes):
                self.call(timestep, conditioning=number)

    def run_contexts(self, timesteps: Sequence[float], *contexts: str) -> None:
        for timestep in timesteps:
            for context in contexts:
                self.call(timestep, context=context)


def steps_of(count: int, passes: Sequence[int | str] = (0,)) -> list[tuple[int, int | str, bool]]:
    """What a trajectory of `count` steps should look like."""
    return [(step, name, step == 0 and name == passes[0]) for step in range(count) for name in passes]


def refuses(*parts: str) -> Any:
    """Expect a TrajectoryError whose message holds `parts` in this order, and says where."""
    assert parts
    return pytest.raises(
        TrajectoryError,
        match="(?s)" + ".*".join(map(re.escape, parts[:1])) + ".*where: .*" + ".*".join(map(re.escape, parts[1:])),
    )


def heun(timesteps: Sequence[float]) -> list[float]:
    """diffusers, HeunDiscreteScheduler.set_timesteps: every timestep but the first stands twice."""
    return [*timesteps[:1], *(timestep for timestep in timesteps[1:] for _ in range(2))]


class Feature(NamedTuple):
    """What a computed step leaves in a ring: where it truly comes from."""

    run: int
    step: int
    name: Hashable


class Inputs(NamedTuple):
    """One call as the model sees it. Samples and conditionings are compared by value; a sample's value has a shape."""

    timestep: float
    sample: Hashable = None
    conditioning: Hashable = "prompt"
    context: str | None = None
    signature: Hashable = ("latents f32[2, 4]", "text f32[2, 7]")


@dataclass
class FakeModel:
    """Plans, pretends to run, commits; keeps a ring of `Feature` for each pass, the newest last.

    A call returns its plan and the ring that it read or would have read.
    """

    session: Session
    history: int
    rings: dict[PassKey, list[Feature]] = field(default_factory=dict)
    last: Inputs | None = None

    def __call__(
        self, inputs: Inputs, truth: Feature | None = None, *, is_broken: bool = False
    ) -> tuple[Plan, list[Feature]]:
        sample = inputs.timestep if inputs.sample is None else inputs.sample
        inputs = inputs._replace(sample=sample)
        plan = self.session.plan(call_of(inputs, self.last))
        if is_broken:
            raise MemoryError("the graph failed")
        self.session.commit(plan)
        if plan.drop_history:
            self.rings.clear()
        key = plan.position.pass_key
        ring = self.rings.get(key, [])
        if plan.mode == "compute":
            self.rings[key] = [*ring, truth or Feature(0, plan.position.step, key)][-self.history :]
        self.last = inputs
        return plan, ring


def call_of(inputs: Inputs, last: Inputs | None) -> StepCall:
    return StepCall(
        (inputs.timestep,),
        inputs.context,
        inputs.signature,
        lambda: last is not None and last.sample == inputs.sample,
        lambda: last is not None and last.conditioning == inputs.conditioning,
        lambda: True,
    )
