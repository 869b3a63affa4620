"""One capture on one backend, with the live weights of the user's model."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from torch import Tensor, nn

from fouriercache.calls import Call
from fouriercache.errors import PreconditionError
from fouriercache.gates import gate_of
from fouriercache.methods import Method
from fouriercache.program import NoMatch, Program, tensor_of
from fouriercache.runtime.backend import Backend, LiveProgram, backend_from_name
from fouriercache.runtime.parts import AheadParts, Parts, ProbeParts, StepForm
from fouriercache.runtime.stepper import Stepper
from fouriercache.steps import ModeKey, ProbePrograms, StepPrograms, Steps

logger = logging.getLogger(__name__)


class LiveStepper(Stepper):
    """Runs the programs of `steps` with the live weights of `model`.

    Attributes:
        used: when it was last found for a call, by a number that grows. batch: samples in the call that it was captured
            for.
    """

    def __init__(self, steps: Steps, model: nn.Module, method: Method, backend: Backend, batch: int) -> None:
        self.steps, self.used, self.batch = steps, 0, batch
        canonical = steps.canonical

        def build(key: ModeKey) -> Parts:
            if key == ("reuse", ()):
                return replace(_parts(steps.modes["reuse"], model, backend), ahead=ahead)
            return _parts(steps.mixed(*key) if key[1] else steps.modes[key[0]], model, backend)

        def ahead() -> AheadParts | None:
            found = steps.ahead(backend.fuses)
            if isinstance(found, NoMatch):
                logger.info("each cached step makes its own sums: %s", found.reason)
                return None
            return AheadParts(
                lambda count: LiveProgram(found.repeated(count), model, backend),
                tuple(given for given in found.sums.inputs if given not in found.own),
                found.own,
                tuple(output.name for output in found.sums.outputs),
                LiveProgram(found.rest, model, backend),
            )

        form = StepForm(
            inputs=steps.capture.program.inputs,
            slots=canonical.slots,
            columns=tuple(canonical.columns(site) for site in canonical.sites),
            places=steps.places,
            keys=tuple((mode, ()) for mode in steps.modes),
            build=build,
            probe=None if steps.probe is None else _probe_parts(steps.probe, model, backend),
            sizes=steps.capture.dynamic_sizes,
            rebuild=steps.capture.rebuild,
            questions=steps.capture.questions,
            gate=gate_of(model),
        )
        super().__init__(form, method)

    def agrees(self, model: nn.Module, arguments: Mapping[str, Any], call: Call) -> bool:
        """Compare the captured program, with the model's live weights, with the model; see `Capture.agrees`."""
        captured, gate = self.steps.capture, gate_of(model)
        program = LiveProgram(captured.program, model, backend_from_name("eager"))

        def run(values: Sequence[Tensor]) -> tuple[Tensor, ...]:
            with gate:
                return program(values)

        return captured.agrees(model, arguments, call, run)


def _parts(programs: StepPrograms, model: nn.Module, backend: Backend) -> Parts:
    tables = [tuple(node.meta["val"].shape) for node in programs.moving.inputs_of("coefficients")]
    return Parts(
        LiveProgram(programs.context, model, backend),
        LiveProgram(programs.timed, model, backend),
        LiveProgram(programs.moving, model, backend),
        programs.rows,
        programs.moving.outputs,
        tables[0] if tables else (),
    )


def _probe_parts(probe: ProbePrograms, model: nn.Module, backend: Backend) -> ProbeParts:
    filters = [tensor_of(node) for node in probe.parts.moving.inputs_of("control")]
    return ProbeParts(
        _parts(probe.parts, model, backend),
        LiveProgram(probe.first, model, backend),
        tuple((int(tensor.shape[0]), tensor.dtype) for tensor in filters if tensor is not None),
    )


def program_of(steps: Steps, name: str) -> Program:
    """Return a program of a capture by the name users know it by.

    Raises:
        PreconditionError: there is none of that name.
    """
    if name == "canonical":
        return steps.canonical
    if name == "cond":
        return steps.outline()
    for mode, programs in steps.modes.items():
        if name == mode:
            return programs.whole
    if name == "probe":
        if steps.probe is not None:
            return steps.probe.parts.whole
        raise PreconditionError(
            "there is no program called 'probe': the schedule knows its steps without looking.\n"
            "  Schedules with an indicator have one, as that of fc.TeaCache()."
        )
    single = () if "partial" in steps.modes else ("cond",)
    names = ("canonical", *single, *steps.modes, *(() if steps.probe is None else ("probe",)))
    raise PreconditionError(f"no program called {name!r}.\n  There are: {', '.join(names)}.")


def batch_of(steps: Steps, call: Call) -> int:
    """Return how many samples a call has, of those that a capture serves."""
    names = [given.name for given in steps.capture.program.inputs]
    sample = call.tensors[names.index(steps.capture.program.inputs_of("sample")[0].name)]
    return int(sample.shape[0])
