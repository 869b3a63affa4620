"""The model as it is between two changes by its owner, and what was captured of it then."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import nn

from fouriercache.calls import Call
from fouriercache.errors import CaptureError
from fouriercache.gates import gate_of
from fouriercache.live_weights import changed_structure
from fouriercache.program import NoMatch
from fouriercache.runtime.live import LiveStepper
from fouriercache.runtime.steppers import Steppers
from fouriercache.runtime.structure import hooks_made, hooks_of, structure_of, without_devices


class Generation:
    """The captures of one model, made while nothing that they depend on was changed.

    When the model has changed, another generation takes this one's place for the trajectories that begin then. One that
    runs keeps the generation it was begun with: a graph is that of the old model, whatever the model is now.
    """

    def __init__(self, model: nn.Module, build: Callable[[Mapping[str, Any], NoMatch | None], LiveStepper]) -> None:
        self._model, self._gate = model, gate_of(model)
        self.steppers = Steppers(model, build)
        self.look()

    def look(self) -> None:
        """Take the model as it is now: what it differs in from before is no change by its owner."""
        with self._gate:
            self._structure: list[object] = structure_of(self._model)
            self._hooks: list[object] = hooks_of(self._model)
            self._hooks_made = hooks_made()

    def has_changed(self, *, but_for_devices: bool = False) -> bool:
        """Whether something is different that graphs depend on, see `structure_of`; or something but for devices."""
        with self._gate:
            now = structure_of(self._model)
        if but_for_devices:
            return without_devices(now) != without_devices(self._structure)
        return now != self._structure

    def find(self, call: Call) -> LiveStepper | None:
        """Return what serves the call; see `Steppers.find`."""
        return self.steppers.find(call)

    def check(self) -> None:
        """Raise CaptureError when the model is in training mode, or a hook was set: the graphs do not run it."""
        check_eval(self._model)
        made = hooks_made()
        if made == self._hooks_made:
            return
        with self._gate:
            if hooks_of(self._model) != self._hooks:
                raise changed_structure("a forward hook")
        self._hooks_made = made


def check_eval(model: nn.Module) -> None:
    """Raise CaptureError when the model is in training mode."""
    if model.training:
        raise CaptureError(
            f"{type(model).__name__} is in training mode; the captured graph is that of eval mode.\n"
            "  Call fast.eval() first."
        )
