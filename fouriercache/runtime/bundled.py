"""`BundledModule`: the drop-in module of a bundle. There is no model in it: only graphs, and what the manifest says."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from fouriercache.bundle import Manifest, dtype_of, signature_of
from fouriercache.calls import Binder, describe
from fouriercache.calls import Call as ModelCall
from fouriercache.errors import BundleError, PreconditionError
from fouriercache.runtime.drop_in import DropIn
from fouriercache.runtime.request import Request
from fouriercache.runtime.rules import Rules
from fouriercache.runtime.stepper import Stepper


class BundledModule(DropIn):
    """A denoiser from a bundle; call it like the model that was exported. Made by `fouriercache.load`.

    Results have no gradients. `config` and `dtype` are those of the model, as far as the manifest has them.

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
        self._end_profiles = end_profiles
        self._steppers, self._texts = tuple(steppers), dict(texts)
        self._binder = Binder(self, signature_of(manifest.parameters))
        self.rules()  # a schedule that cannot work is refused here, not in the first call

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Run one step for this thread's own request; see `Request` for what it raises.

        Raises:
            BundleError: the bundle has no graphs for calls of this form.
        """
        return self.session(*args, **kwargs)

    def new_session(self) -> Request:
        """Return a request with its own state; call it like the model. Requests do not disturb each other."""
        return Request(
            self.rules(),
            self,
            self._find_stepper,
            self._flatten,
            lambda: None,
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

    def _flatten(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[ModelCall, dict[str, Any]]:
        arguments = self._binder.arguments(args, kwargs)
        return self._binder.flatten(arguments), arguments

    def _find_stepper(self, call: ModelCall, arguments: Mapping[str, Any], begins: bool) -> Stepper:  # noqa: ARG002
        found = [(sizes, stepper) for stepper in self._steppers if (sizes := stepper.dynamic_sizes(call)) is not None]
        if found:  # one for this very batch was captured as that for any batch was wrong for it
            return min(found, key=lambda pair: len(pair[0]))[1]
        forms = "\n    ".join(
            "\n      ".join([str(form.call), *form.call.other_constants(call)]) for form in self.manifest.forms
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
