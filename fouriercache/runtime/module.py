"""`OptimizedModule`: the drop-in module. Captures when it must, and hands every call to a request."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import nn

from fouriercache.calls import Binder, Call, describe
from fouriercache.errors import CaptureError, NotCapturedError, TrajectoryError
from fouriercache.live_weights import changed_structure
from fouriercache.preconditions import check_not_offloaded
from fouriercache.program import NoMatch, Program
from fouriercache.runtime.backend import Backend
from fouriercache.runtime.drop_in import DropIn
from fouriercache.runtime.live import LiveStepper, program_of
from fouriercache.runtime.report import Report, report_of
from fouriercache.runtime.request import Request
from fouriercache.runtime.rules import Rules
from fouriercache.runtime.steppers import Steppers
from fouriercache.runtime.structure import hooks_made, hooks_of, structure_of
from fouriercache.runtime.untraced import check_untraced, untraced
from fouriercache.steps import Steps

Build = Callable[[nn.Module, Mapping[str, Any], NoMatch | None], Steps]


class OptimizedModule(DropIn):
    """A denoiser with its features cached between steps; call it like the model it was made from.

    Attributes that it lacks are the model's own (`config`, `dtype`, ...), and for `isinstance` it is of the model's
    class, so that a pipeline takes it, runs it and saves it like the model. The model is a child: `to(...)` moves it,
    `state_dict()` is its state dict, and weights changed in place take effect. A change of its modules, of their hooks,
    training flags or plain attributes (a LoRA's scale) is seen when a trajectory begins, and the model captured again;
    a forward hook set in mid-trajectory is refused.

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
        self.model = model
        self.training = model.training
        self._build = build
        self._backend = backend
        self.check_finite = check_finite
        self._binder = Binder(model)
        self._steppers = Steppers(model, self._make_stepper)
        self._lock = threading.Lock()
        self._hooks_made = 0
        self._look_at_model()
        # diffusers asks an object for its module and class where it saves a pipeline: both are the model's
        vars(self)["__module__"] = type(model).__module__
        self.register_load_state_dict_pre_hook(_add_model_to_keys)  # type: ignore[no-untyped-call]
        rules()  # a schedule that cannot work is refused here, not in the first call

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            # A property of ours that failed arrives here too; its error must not be taken for a missing attribute.
            if name.startswith("_") or "model" not in self.__dict__.get("_modules", {}):
                raise
            if hasattr(type(self), name):
                return object.__getattribute__(self, name)  # raises the property's error again, in its own words
            return getattr(self._modules["model"], name)

    @property  # type: ignore[misc]  # typeshed has it writable, for assignments that nobody makes here
    def __class__(self) -> type:
        return type(self.model)

    def _get_name(self) -> str:
        return type(self).__name__

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

    def new_session(self) -> Request:
        """Return a request with its own state; call it like the model. Requests do not disturb each other."""
        return Request(
            self.rules(),
            self.model,
            self._find_stepper,
            self._flatten,
            self._check_hooks,
            check_finite=self.check_finite,
        )

    @property
    def report(self) -> Report:
        """Sites, refusals with reasons, the token grid, the cost of each mode, and what was decided in this thread.

        Raises:
            NotCapturedError: nothing has been captured yet; for `hasattr`, the attribute is not there yet.
        """
        return report_of(self._captured(), self.method, self.session.num_steps, self.session.decisions)

    def program(self, name: str) -> Program:
        """Return a program of the last capture by its name.

        There are "canonical", "compute", "reuse", "cond" (all in one graph), for adaptive schedules "probe", and for
        methods that choose tokens "partial" and no "cond".

        Raises:
            NotCapturedError: nothing has been captured yet.
            PreconditionError: there is no program of that name.
        """
        return program_of(self._captured(), name)

    @property
    def captured(self) -> tuple[Steps, ...]:
        """What was captured, for each form of call, the newest first; () before the first call."""
        return tuple(stepper.steps for stepper in self._steppers)

    def least_batch(self, steps: Steps) -> int:
        """Return the smallest batch for which one of `captured` is right: 1, or 2 if one sample is a case of its own.

        Whether it is may cost a run of the model.
        """
        with self._lock:
            return self._steppers.least_batch(steps)

    def recapture(self) -> None:
        """Drop every captured program; the next call captures again. Requests keep their place and features."""
        with self._lock:
            self._steppers.clear()
            self._look_at_model()

    def capture(self, arguments: Mapping[str, Any]) -> None:
        """Capture now, for calls like `model(**arguments)`, instead of at the first call.

        Raises:
            CaptureError: `arguments` are no keyword arguments of the model, or it cannot be captured.
        """
        named = self._binder.example(arguments)
        with self._lock:
            call = self._binder.flatten(named)
            _check_device(self.model, call)
            self._steppers.capture(call, named)
            self._look_at_model()

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle and copy the model and how it was optimised; captured programs and requests' states stay with this."""
        return _restore, (self.model, self._build, self._backend, self.rules, self.check_finite)

    def __deepcopy__(self, memo: dict[int, Any]) -> OptimizedModule:
        """Copy the model and optimise the copy alike; captured programs and requests' states stay with this one."""
        model = copy.deepcopy(self.model, memo)
        return _restore(model, self._build, self._backend, self.rules, self.check_finite)

    def state_dict(self, *args: Any, **kwargs: Any) -> Any:
        """The model's own state dict."""
        return self.model.state_dict(*args, **kwargs)

    def load_state_dict(self, *args: Any, **kwargs: Any) -> Any:
        """Load into the model; takes effect at once."""
        return self.model.load_state_dict(*args, **kwargs)

    def _captured(self) -> Steps:
        if not self._steppers:
            raise NotCapturedError(
                "nothing has been captured yet.\n  Call the module once, or pass example_inputs= to optimize()."
            )
        return next(iter(self._steppers)).steps

    def _flatten(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[Call, dict[str, Any]]:
        arguments = self._binder.arguments(args, kwargs)
        return self._binder.flatten(arguments), arguments

    def _find_stepper(self, call: Call, arguments: Mapping[str, Any], begins: bool) -> LiveStepper:
        """Return what runs the call; capture when nothing does. `begins`: also look whether the model has changed."""
        if begins or self.model.training:
            self._notice_changes()
        found = self._steppers.find(call)
        if found is not None:
            return found
        if not begins:
            self._notice_changes()  # what is captured now must not be taken for old at the next look
        with self._lock:
            _check_device(self.model, call)
            stepper = self._steppers.serve(call, arguments)
            self._look_at_model()  # that ran the model's own code: what it sets is no change by its owner
            return stepper

    def _make_stepper(self, arguments: Mapping[str, Any], fixed: NoMatch | None) -> LiveStepper:
        return LiveStepper(self._build(self.model, arguments, fixed), self.model, self.method, self._backend)

    def _notice_changes(self) -> None:
        if self.model.training:
            raise CaptureError(
                f"{type(self.model).__name__} is in training mode; the captured graph is that of eval mode.\n"
                "  Call fast.eval() first."
            )
        if structure_of(self.model) != self._structure:
            self.recapture()

    def _check_hooks(self) -> None:
        """Raise CaptureError when a hook was set since the last look: the graph in use does not run it."""
        made = hooks_made()
        if made == self._hooks_made:
            return
        if hooks_of(self.model) != self._hooks:
            raise changed_structure("a forward hook")
        self._hooks_made = made

    def _look_at_model(self) -> None:
        self._structure: list[object] = structure_of(self.model)
        self._hooks: list[object] = hooks_of(self.model)
        self._hooks_made = hooks_made()


def _add_model_to_keys(_: nn.Module, state_dict: dict[str, Any], prefix: str, *__: object) -> None:
    """Name the weights below `prefix` as torch finds them; the state dict has the names they have in the model."""
    for key in [key for key in state_dict if key.startswith(prefix)]:
        state_dict[f"{prefix}model.{key.removeprefix(prefix)}"] = state_dict.pop(key)


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
