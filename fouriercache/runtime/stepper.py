"""One capture on one backend: runs a step in either mode. Holds no state of any request."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from fouriercache.calls import Call
from fouriercache.errors import PreconditionError
from fouriercache.methods import Method
from fouriercache.predictors import Coefficients
from fouriercache.program import Program
from fouriercache.runtime.backend import Backend, Executable
from fouriercache.runtime.conditioning import Conditioning, Hoisted
from fouriercache.runtime.probe import Probe
from fouriercache.steps import MODES, Mode, Steps


@dataclass(frozen=True)
class Outcome:
    """What one step gave: the model's flat results, in a computed step one value for each site, and the new states."""

    results: tuple[Tensor, ...]
    values: tuple[Tensor, ...]
    states: Mapping[str, Tensor] = field(default_factory=dict)


class Stepper:
    """Runs the programs of `steps` with the live weights of `model`."""

    def __init__(self, steps: Steps, model: nn.Module, method: Method, backend: Backend) -> None:
        self.steps = steps
        self._method = method
        program = steps.capture.program
        self._names = tuple(given.name for given in program.inputs)
        roles = {given.role: given.name for given in program.inputs}
        self.sample_name, self.stamp_name = roles["sample"], roles["timestep"]
        self.conditioning_names = tuple(given.name for given in program.inputs if given.role == "conditioning")
        self.history = steps.canonical.history
        self._modes = {mode: _ModeRunner(steps, mode, model, backend) for mode in MODES}
        indicator = method.schedule.indicator
        self.probe = (
            Probe(steps.probe, indicator, self.stamp_name, model, backend) if steps.probe and indicator else None
        )

    def serves(self, call: Call) -> bool:
        """Whether this capture computes what the model would for the call."""
        return self.steps.capture.serves(call)

    def named(self, call: Call) -> dict[str, Tensor]:
        """The call's tensors by input name."""
        return dict(zip(self._names, call.tensors, strict=True))

    def rebuild(self, results: Sequence[Tensor]) -> Any:
        """Return the results in the model's own output type."""
        return self.steps.capture.rebuild(results)

    def computed(self, num_steps: int) -> tuple[int, ...] | None:
        """The steps that the schedule computes, None if that shows when they run."""
        return self._method.schedule.steps(num_steps)

    def run(
        self,
        mode: Mode,
        named: Mapping[str, Tensor],
        coefficients: Coefficients,
        ring: Sequence[tuple[Tensor, ...]],
        kept: Hoisted,
        stamp: tuple[float, ...],
        ahead: Sequence[float],
        states: Mapping[str, Tensor],
        controls: Mapping[str, Tensor],
    ) -> Outcome:
        """Run one step.

        Args:
            named: the call's tensors by input name. coefficients: as in `Plan`.
            ring: kept values of computed steps, newest first; fewer than the history is fine, the coefficients of
                the missing ones are 0.
            kept: the hoisted values of this mode and conditioning, read and filled.
            stamp: the timestep's values. ahead: timesteps to hoist in one batch.
            states: what the pass's last steps returned, by name. controls: inputs that the method computes, by name.
        """
        runner = self._modes[mode]
        hoisted: Mapping[str, Tensor] = {}
        if not runner.conditioning.is_empty:
            same = stamp[:1] if stamp.count(stamp[0]) == len(stamp) else stamp
            hoisted = runner.conditioning.values(kept, named, self.stamp_name, same, ahead)
        return runner.run(named, hoisted, coefficients, ring, {**states, **controls})


class _ModeRunner:
    """One mode's executables, and where each input of its moving part comes from."""

    def __init__(self, steps: Steps, mode: Mode, model: nn.Module, backend: Backend) -> None:
        programs = steps.modes[mode]
        self.conditioning = Conditioning(
            Executable(programs.context, model, backend),
            Executable(programs.timed, model, backend),
            programs.rows,
        )
        self._moving = Executable(programs.moving, model, backend)
        roles = [output.role for output in programs.moving.outputs]
        self._results, self._values = roles.count("result"), roles.count("result") + roles.count("slot")
        self._states = [output.name for output in programs.moving.outputs if output.role == "state"]
        columns = _columns(steps)
        # A slot's place in the ring: which computed step, and which of the values kept there.
        self._slots = {
            given.name: (int(given.name.rsplit("_", 1)[1]), columns[int(given.name.split("_")[1])])
            for given in programs.moving.inputs
            if given.role == "slot"
        }

    def run(
        self,
        named: Mapping[str, Tensor],
        hoisted: Mapping[str, Tensor],
        coefficients: Coefficients,
        ring: Sequence[tuple[Tensor, ...]],
        extra: Mapping[str, Tensor],
    ) -> Outcome:
        values: list[Tensor] = []
        for given in self._moving.inputs:
            if given.role == "slot":
                step, column = self._slots[given.name]
                values.append(ring[min(step, len(ring) - 1)][column])
            elif given.role == "hoisted":
                values.append(hoisted[given.name.removeprefix("hoisted_")])
            elif given.role == "coefficients":
                device = next(iter(named.values())).device
                values.append(torch.tensor(coefficients[0][0], dtype=torch.float32, device=device))
            elif given.role in ("state", "control"):
                values.append(extra[given.name])
            else:
                values.append(named[given.name])
        found = self._moving(values)
        states = dict(zip(self._states, found[self._values :], strict=True))
        return Outcome(found[: self._results], found[self._results : self._values], states)


def _columns(steps: Steps) -> dict[int, int]:
    """Position of a site -> position of its value among those that a computed step returns."""
    kept = [output.name for output in steps.modes["compute"].whole.outputs if output.role == "slot"]
    sites = [site.name for site in steps.canonical.sites]
    return {sites.index(name): column for column, name in enumerate(kept)}


def program_of(steps: Steps, name: str) -> Program:
    """Return a program of a capture by the name users know it by.

    Raises:
        PreconditionError: there is none of that name.
    """
    if name == "canonical":
        return steps.canonical
    if name == "cond":
        return steps.outline()
    for mode in MODES:
        if name == mode:
            return steps.modes[mode].whole
    if name == "probe":
        if steps.probe is not None:
            return steps.probe.parts.whole
        raise PreconditionError(
            "there is no program called 'probe': the schedule knows its steps without looking.\n"
            "  Schedules with an indicator have one, as that of fc.TeaCache()."
        )
    raise PreconditionError(f"no program called {name!r}.\n  There are: canonical, cond, {', '.join(MODES)}, probe.")
