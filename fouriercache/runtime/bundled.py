"""`BundledModule`: the drop-in module of a bundle. There is no model in it: only graphs, and what the manifest says."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from copy import copy
from pathlib import Path
from typing import Any, NoReturn

import torch
from torch import Tensor, nn

from fouriercache.bundle import Manifest, dtype_of, signature_of
from fouriercache.calls import Binder, Call, describe
from fouriercache.errors import BundleError, PreconditionError
from fouriercache.runtime.drop_in import DropIn
from fouriercache.runtime.request import Request
from fouriercache.runtime.rules import Rules
from fouriercache.runtime.served import by_site
from fouriercache.runtime.stepper import Stepper
from fouriercache.runtime.untraced import check_untraced, untraced
from fouriercache.tracing import first_line

_MOST_KNOWN = 64
"""Forms of calls of which it is remembered what serves them."""


class BundledModule(DropIn):
    """A denoiser from a bundle; call it like the model that was exported. Made by `fouriercache.load`.

    Results have no gradients. `config` and `dtype` are those of the model, as far as the manifest has them; there is
    one parameter, without entries, as pipelines ask the first one for its dtype and device. What would change or read
    weights is refused. A copy has the same graphs and no request's state; a pickle has the folder's path, and loads it
    again.

    Attributes:
        folder: where the bundle lies. manifest: what it is. device: where the inputs must be.
    """

    def __init__(
        self,
        folder: Path,
        manifest: Manifest,
        steppers: Sequence[Stepper],
        device: torch.device,
        texts: Mapping[str, str],
        end_profiles: Callable[[], tuple[Path, ...]],
        again: Callable[[], BundledModule],
    ) -> None:
        trajectory = manifest.trajectory
        super().__init__(
            Rules(
                manifest.method,
                trajectory.num_steps,
                trajectory.passes_per_step,
                trajectory.direction,
                trajectory.timesteps,
            )
        )
        self.folder, self.manifest, self.device = folder, manifest, device
        self.config = _Config(manifest.model.config)
        self.dtype = dtype_of(manifest.model.dtype)
        self.training = False
        self.stand_in = nn.Parameter(torch.empty(0, dtype=self.dtype, device=device), requires_grad=False)
        self._end_profiles, self._again = end_profiles, again
        self._graphs, self._texts = _Graphs(tuple(steppers), manifest), dict(texts)
        self._binder = Binder(self, signature_of(manifest.parameters))
        self.rules()  # a schedule that cannot work is refused here, not in the first call

    @untraced
    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Run one step for this thread's own request; see `Request` for what it raises.

        Raises:
            BundleError: the bundle has no graphs for calls of this form.
            CaptureError: torch.export or torch.jit is tracing.
        """
        check_untraced("a bundle", "Its graphs are ONNX already: the .onnx files in its folder.")
        return self.session(*args, **kwargs)

    def new_session(self, *, num_steps: int | None = None) -> Request:
        """Return a request with its own state; call it like the model. Requests do not disturb each other.

        Args:
            num_steps: denoising steps of its trajectories; those of the bundle when not given.

        Raises:
            MethodError: it is no number of steps, or the method is made for another.
            CalibrationError: the method was calibrated for the timesteps of another number of steps.
            BundleError: the schedule tells sites apart, and the bundle has the graphs of its own number of steps alone.
        """
        rules = self.rules.of_length(num_steps)
        if rules.num_steps != self.rules.num_steps and by_site(rules.method.schedule) is not None:
            raise BundleError(
                "the schedule computes single sites at some steps, and the bundle has graphs of those that "
                f"{self.rules.num_steps} steps have.\n  where: {self.folder}\n"
                f"  Export another one, of optimize(..., num_steps={num_steps})."
            )
        return Request(
            rules(),
            self,
            self,
            self._serve,
            self._flatten,
            check_finite=self.manifest.trajectory.check_finite,
        )

    def text(self, name: str) -> str:
        """Return the program's text of a step mode ("compute", "reuse", "partial", "probe"), as it was exported.

        Raises:
            PreconditionError: the bundle has none of that name.
        """
        if name not in self._texts:
            raise PreconditionError(f"the bundle has no graph called {name!r}.\n  There are: {', '.join(self._texts)}.")
        return self._texts[name]

    def finish_profiles(self) -> tuple[Path, ...]:
        """End profiling, and return the engine's profiles, one for each graph that was loaded with `profile=`."""
        return self._end_profiles()

    def train(self, mode: bool = True) -> BundledModule:
        """Do nothing for `eval()`; a graph cannot be trained.

        Raises:
            BundleError: training was asked for.
        """
        if mode:
            raise BundleError("a bundle has no weights to train.\n  Train the model that it was exported from.")
        return self

    def requires_grad_(self, requires_grad: bool = True) -> BundledModule:
        """Do nothing for False.

        Raises:
            BundleError: gradients were asked for.
        """
        return self.train(requires_grad)

    def save_pretrained(self, *_: Any, **__: Any) -> NoReturn:
        """Refuse; a bundle is no checkpoint.

        Raises:
            BundleError: always.
        """
        raise self._no_weights("saved as a checkpoint")

    def to(self, *args: Any, **kwargs: Any) -> BundledModule:
        """Do nothing where it has that device and dtype already.

        Raises:
            BundleError: it has another one, or there is no such device or dtype here.
        """
        try:
            super().to(*args, **kwargs)
        except (RuntimeError, TypeError) as error:
            raise self._cannot_move(f"torch refuses that: {first_line(error)}") from error
        return self

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> BundledModule:  # noqa: ARG002
        """What `to`, `half`, `cuda` and their like come to: nothing, or a BundleError where something would change."""
        try:
            wanted = fn(self.stand_in.detach())
        except (AssertionError, RuntimeError) as error:  # torch says by either that a device is not there
            raise self._cannot_move(f"torch refuses that: {first_line(error)}") from error
        if wanted.dtype != self.dtype:
            raise BundleError(
                f"a bundle computes in the precision it was exported in, and cannot be made {wanted.dtype}.\n"
                f"  where: {self.folder}, {self.dtype}\n"
                f"  Give it {self.dtype} inputs; or export model.to({wanted.dtype}), and load that bundle."
            )
        if wanted.device != self.stand_in.device:
            raise self._cannot_move(f"{wanted.device} is another device than it was loaded for")
        return self

    def _save_to_state_dict(self, *_: Any, **__: Any) -> NoReturn:
        raise self._no_weights("read as a state dict")

    def _load_from_state_dict(self, state_dict: Mapping[str, Any], prefix: str, *_: Any, **__: Any) -> None:
        if any(key.startswith(prefix) for key in state_dict):
            raise self._no_weights("changed")

    def _cannot_move(self, why: str) -> BundleError:
        return BundleError(
            f"a bundle cannot be moved: {why}.\n"
            f"  where: {self.folder}, on {self.device}\n"
            "  Load it for that device, fc.load(..., provider='cpu' or 'cuda'), before it is put into a pipeline."
        )

    def _no_weights(self, what: str) -> BundleError:
        return BundleError(
            f"a bundle's weights stand in its graphs' file, and cannot be {what}.\n"
            f"  where: {self.folder}\n"
            "  To keep the bundle, copy its folder; for other weights, export their model."
        )

    def __copy__(self) -> BundledModule:
        return BundledModule(
            self.folder, self.manifest, self._graphs.steppers, self.device, self._texts, self._end_profiles, self._again
        )

    def __deepcopy__(self, memo: dict[int, Any]) -> BundledModule:
        return copy(self)

    def __reduce__(self) -> tuple[Any, ...]:
        return _load_again, (self._again, self.manifest.text())

    def _flatten(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[Call, dict[str, Any]]:
        arguments = self._binder.arguments(args, kwargs)
        return self._binder.flatten(arguments), arguments

    def _serve(self, call: Call, arguments: Mapping[str, Any]) -> tuple[Stepper, _Graphs]:  # noqa: ARG002
        return self._graphs.find(call), self._graphs


def _load_again(again: Callable[[], BundledModule], text: str) -> BundledModule:
    """Load the bundle that was pickled. Raises BundleError when another one has taken its place."""
    found = again()
    if found.manifest.text() != text:
        raise BundleError(
            f"the bundle is not the one that was pickled: its manifest is another.\n  where: {found.folder}\n"
            "  Load it with fc.load, or bring the older one back."
        )
    return found


class _Graphs:
    """What serves calls: the graphs of a bundle, which never change."""

    def __init__(self, steppers: tuple[Stepper, ...], manifest: Manifest) -> None:
        self.steppers, self._manifest = steppers, manifest
        self._known: dict[Hashable, Stepper] = {}

    def check(self) -> None:
        """Do nothing."""

    def find(self, call: Call) -> Stepper:
        """Return what runs the call.

        Raises:
            BundleError: the bundle has no graphs for calls of this form.
        """
        form = call.key, call.form
        if form in self._known:  # looking for it takes longer than a small graph
            return self._known[form]
        found = [(sizes, stepper) for stepper in self.steppers if (sizes := stepper.dynamic_sizes(call)) is not None]
        if found:  # one for this very batch was captured as that for any batch was wrong for it
            stepper = min(found, key=lambda pair: len(pair[0]))[1]
            if len(self._known) < _MOST_KNOWN:
                self._known[form] = stepper
            return stepper
        forms = "\n    ".join(
            "\n      ".join([str(form.call), *form.call.other_constants(call)]) for form in self._manifest.forms
        )
        raise BundleError(
            f"the bundle has no graphs for calls of this form: {describe(call.tensors, call.paths)}\n"
            f"  There are graphs for:\n    {forms}\n"
            "  Export with example_inputs= of this form."
        )


class _Config(dict[str, Any]):
    """A model's configuration: `config.in_channels`, as pipelines read it."""

    def __getattr__(self, name: str) -> Any:
        if name in self:
            return self[name]
        raise AttributeError(f"the model's configuration in the bundle has no {name!r}")
