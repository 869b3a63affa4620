"""`OptimizedModule`: the drop-in module. Captures when it must, and hands every call to a request."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import nn

from fouriercache.calls import Binder, Call, describe
from fouriercache.errors import NotCapturedError, TrajectoryError
from fouriercache.gates import gate_of
from fouriercache.preconditions import check_not_offloaded
from fouriercache.program import NoMatch, Program
from fouriercache.runtime.backend import Backend
from fouriercache.runtime.generation import Generation, check_eval
from fouriercache.runtime.live import LiveStepper, batch_of, program_of
from fouriercache.runtime.model_names import ModelNames
from fouriercache.runtime.report import Report, report_of
from fouriercache.runtime.request import Request
from fouriercache.runtime.rules import Rules
from fouriercache.runtime.steppers import Steppers
from fouriercache.runtime.untraced import check_untraced, untraced
from fouriercache.steps import Steps

Build = Callable[[nn.Module, Mapping[str, Any], NoMatch | None, Callable[[], None]], Steps]
"""Captures a model for a call; see `generation.Build`."""


class OptimizedModule(ModelNames):
    """A denoiser with its features cached between steps; call it like the model it was made from.

    Attributes, weights and modules are the model's own (`config`, `dtype`, ...), read and set, and for `isinstance` it
    is of the model's class, so that a pipeline takes it, runs it and saves it like the model; see `ModelNames`. Weights
    changed in place take effect. A change of its modules, of their hooks, training flags or attributes (a LoRA's scale)
    is seen when a trajectory begins, and the model captured again; a forward hook set in mid-trajectory is refused.

    Made by `fouriercache.optimize`.
    """

    def __init__(
        self,
        model: nn.Module,
        build: Build,
        backend: Backend,
        rules: Rules,
        *,
        check_finite: bool,
    ) -> None:
        super().__init__(rules)
        self._build = build
        self._backend = backend
        self.check_finite = check_finite
        self._binder = Binder(model)
        self._generation = Generation(model, self._make_stepper)
        self._lock = threading.Lock()
        self._stand_for(model)
        rules()  # a schedule that cannot work is refused here, not in the first call

    def extra_repr(self) -> str:
        """What `repr` says beside the model's modules."""
        given = f"num_steps={self.rules.num_steps}, backend={self._backend.name!r}"
        return f"model={type(self.model).__name__}, method={self.method!r}, {given}"

    @untraced
    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Run one step for this thread's own request; see `Request` for what it raises.

        Inside torch.compile it runs as it is: `backend="inductor"` compiles the graphs of its steps.

        Raises:
            CaptureError: torch.export or torch.jit is tracing: what a step does is decided in Python.
        """
        check_untraced(
            "an optimised module",
            "Call it once, then export its graphs: fouriercache.export.export_program(fast.program('cond')).",
        )
        return self.session(*args, **kwargs)

    def new_session(self, *, num_steps: int | None = None) -> Request:
        """Return a request with its own state; call it like the model. Requests do not disturb each other.

        Args:
            num_steps: denoising steps of its trajectories; those of `optimize` when not given. Graphs do not depend on
                it, so sessions of all lengths share the captures.

        Raises:
            MethodError: it is no number of steps, or the method is made for another.
            CalibrationError: the method was calibrated for the timesteps of another number of steps.
        """
        return Request(
            self.rules.of_length(num_steps)(),
            self.model,
            self,
            self._serve,
            self._flatten,
            check_finite=self.check_finite,
        )

    @property
    def report(self) -> Report:
        """Sites, refusals with reasons, the token grid, the cost of each mode, and what was decided in this thread.

        Raises:
            NotCapturedError: nothing has been captured yet of the model as it is; for `hasattr`, the attribute is not
                there yet.
        """
        newest, session = self._captured(), self.session
        batch = next((stepper.batch for stepper in self._steppers if stepper.steps is newest), None)
        return report_of(newest, self.method, session.num_steps, session.decisions, batch)

    def program(self, name: str) -> Program:
        """Return a program of the last capture by its name.

        There are "canonical", "compute", "reuse", "cond" (all in one graph), for adaptive schedules "probe", and for
        methods that choose tokens "partial" and no "cond".

        Raises:
            NotCapturedError: nothing has been captured yet of the model as it is.
            PreconditionError: there is no program of that name.
        """
        return program_of(self._captured(), name)

    @property
    def captured(self) -> tuple[Steps, ...]:
        """What was captured, for each form of call, the newest first; () before the first call.

        Raises:
            NotCapturedError: the model has changed since, or is in training mode.
        """
        with self._lock:
            return self._current()

    def least_batch(self, steps: Steps) -> int:
        """Return the smallest batch for which one of `captured` is right: 1, or 2 if one sample is a case of its own.

        Whether it is may cost a run of the model.

        Raises:
            NotCapturedError: the model has changed since, or is in training mode.
        """
        with self._lock:
            self._current()
            return self._generation.watch(lambda: self._steppers.least_batch(steps))

    def recapture(self) -> None:
        """Drop every captured program; the next call captures again. Requests keep their place and features.

        A trajectory that goes on with what the model was before a change keeps the programs it was begun with.
        """
        with self._lock:
            self._generation.steppers.clear()
            self._generation.look()

    def capture(self, arguments: Mapping[str, Any]) -> None:
        """Capture now, for calls like `model(**arguments)`, instead of at the first call.

        What was captured of the model before it was changed is dropped.

        Raises:
            CaptureError: `arguments` are no keyword arguments of the model, or it cannot be captured.
        """
        named = self._binder.example(arguments)
        check_eval(self.model)
        gate_of(self.model).check_outside()
        with self._lock:
            call = self._binder.flatten(named)
            _check_device(self.model, call)
            generation = self._renewed()
            generation.watch(lambda: generation.steppers.capture(call, named))

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle and copy the model and how it was optimised; captured programs and requests' states stay with this."""
        return _restore, (self.model, self._build, self._backend, self.rules, self.check_finite)

    def __deepcopy__(self, memo: dict[int, Any]) -> OptimizedModule:
        """Copy the model and optimise the copy alike; captured programs and requests' states stay with this one."""
        model = copy.deepcopy(self.model, memo)
        return _restore(model, self._build, self._backend, self.rules, self.check_finite)

    def _captured(self) -> Steps:
        found = self.captured
        if not found:
            raise NotCapturedError(
                "nothing has been captured yet.\n  Call the module once, or pass example_inputs= to optimize()."
            )
        return found[0]

    def _current(self) -> tuple[Steps, ...]:
        """What was captured of the model as it is now; where its weights lie does not matter. The lock is held."""
        found = tuple(stepper.steps for stepper in self._steppers)
        if found and self.model.training:
            raise NotCapturedError(
                f"{type(self.model).__name__} is in training mode; what was captured is the graph of eval mode.\n"
                "  Call fast.eval() first."
            )
        if found and self._generation.has_changed(but_for_devices=True):
            raise NotCapturedError(
                f"{type(self.model).__name__} has changed since it was captured, and there is no graph of it as it is "
                "now.\n  Call fast once, or give fast.capture() the arguments of a call; "
                "export() takes them as example_inputs=."
            )
        return found

    def _flatten(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[Call, dict[str, Any]]:
        arguments = self._binder.arguments(args, kwargs)
        return self._binder.flatten(arguments), arguments

    @property
    def _steppers(self) -> Steppers:
        return self._generation.steppers

    def _serve(self, call: Call, arguments: Mapping[str, Any]) -> tuple[LiveStepper, Generation]:
        """Return what runs the call on the model as it is now; capture when nothing does."""
        check_eval(self.model)
        generation = self._generation
        if not generation.has_changed() and (found := generation.find(call)) is not None:
            return found, generation
        gate_of(self.model).check_outside()
        with self._lock:
            _check_device(self.model, call)
            generation = self._renewed()  # another thread may have been faster
            return generation.watch(lambda: generation.steppers.serve(call, arguments)), generation

    def _renewed(self) -> Generation:
        """Return the generation of the model as it is now; the lock is held."""
        if self._generation.has_changed():
            self._generation = Generation(self.model, self._make_stepper, self._generation.set_by_runs)
        return self._generation

    def _make_stepper(
        self, arguments: Mapping[str, Any], fixed: NoMatch | None, ready: Callable[[], None]
    ) -> LiveStepper:
        steps = self._build(self.model, arguments, fixed, ready)
        batch = batch_of(steps, self._binder.flatten(arguments))
        return LiveStepper(steps, self.model, self.method, self._backend, batch)


def _restore(model: nn.Module, build: Build, backend: Backend, rules: Rules, is_checked: bool) -> OptimizedModule:
    return OptimizedModule(model, build, backend, rules, check_finite=is_checked)


def _check_device(model: nn.Module, call: Call) -> None:
    weight = next(model.parameters(), None)
    devices = {tensor.device for tensor in call.tensors if tensor.ndim and tensor.is_floating_point()}
    if weight is not None and devices - {weight.device}:
        check_not_offloaded(model)
        raise TrajectoryError(
            f"the inputs are on {', '.join(sorted(map(str, devices)))}, the model's weights on {weight.device}.\n"
            f"  where: {describe(call.tensors, call.paths)}\n"
            "  Move one to the other's device: fast.to(device), or inputs.to(device)."
        )


def compiled_by_torch(model: object) -> bool:
    """Whether `model` came out of torch.compile."""
    return isinstance(model, torch._dynamo.eval_frame.OptimizedModule)
