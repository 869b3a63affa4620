"""The model as it is between two changes by its owner, and what was captured of it then."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple, TypeAlias, TypeVar

from torch import nn

from fouriercache.calls import Call
from fouriercache.errors import CaptureError
from fouriercache.gates import gate_of
from fouriercache.live_weights import changed_structure
from fouriercache.program import NoMatch
from fouriercache.runtime.live import LiveStepper
from fouriercache.runtime.steppers import Steppers
from fouriercache.runtime.structure import (
    Places,
    changed_places,
    hooks_made,
    hooks_of,
    places_of,
    structure_at,
    structure_of,
    without_devices,
)

T = TypeVar("T")

Build: TypeAlias = Callable[[Mapping[str, Any], NoMatch | None, Callable[[], None]], LiveStepper]
"""Captures the model for calls like the given one, for any batch or, with a reason, for this one alone; calls the last
when the model has been run and is about to be traced."""


class _Seen(NamedTuple):
    """The model as it was at one time: its structure, also by places, and its hooks."""

    places: Places
    structure: list[object]
    hooks: list[object]
    hooks_made: int


class Generation:
    """The captures of one model, made while nothing that they depend on was changed.

    When the model has changed, another generation takes this one's place for the trajectories that begin then. One that
    runs keeps the generation it was begun with: a graph is that of the old model, whatever the model is now.

    Attributes:
        set_by_runs: the places that a run of the model was seen to change.
    """

    def __init__(self, model: nn.Module, build: Build, set_by_runs: Iterable[tuple[str, str]] = ()) -> None:
        self._model, self._gate = model, gate_of(model)
        self.steppers = Steppers(model, lambda arguments, fixed: build(arguments, fixed, self._before_trace))
        self.set_by_runs = set(set_by_runs)
        self._traced: list[_Seen] = []
        self.look()

    def look(self) -> None:
        """Take the model as it is now for what the captures are of: there are none yet."""
        self._take(self._see())

    def watch(self, work: Callable[[], T]) -> T:
        """Do what may run the model or capture it. What its own code sets then is no change by its owner.

        What another thread changes meanwhile is one, as the graph may be that of before. The two are told apart by
        the place: what changed while the model was only run, now or earlier, is what its runs set.
        """
        before, is_first, runs = self._see(), not self.steppers, self.steppers.runs
        self._traced.clear()
        result = work()
        now, traced = self._see(), self._traced[-1] if self._traced else None
        has_run = traced is not None or self.steppers.runs != runs
        ran = changed_places(before.places, (traced or now).places) if has_run else set()
        base = (traced or before) if is_first else self._seen
        known = self.set_by_runs | ran if traced is not None and is_first else self.set_by_runs
        self._take(now if changed_places(base.places, now.places) <= known else base)
        self.set_by_runs = self.set_by_runs | ran
        return result

    def _before_trace(self) -> None:
        self._traced.append(self._see())

    def _see(self) -> _Seen:
        with self._gate:
            made, places = hooks_made(), places_of(self._model)
            return _Seen(places, structure_at(places), hooks_of(self._model), made)

    def _take(self, seen: _Seen) -> None:
        self._seen, self._hooks_made = seen, seen.hooks_made

    def has_changed(self, *, but_for_devices: bool = False) -> bool:
        """Whether something is different that graphs depend on, see `structure_of`; or something but for devices."""
        with self._gate:
            now = structure_of(self._model)
        if but_for_devices:
            return without_devices(now) != without_devices(self._seen.structure)
        return now != self._seen.structure

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
            if hooks_of(self._model) != self._seen.hooks:
                raise changed_structure("a forward hook")
        self._hooks_made = made


def check_eval(model: nn.Module) -> None:
    """Raise CaptureError when the model is in training mode."""
    if model.training:
        raise CaptureError(
            f"{type(model).__name__} is in training mode; the captured graph is that of eval mode.\n"
            "  Call fast.eval() first."
        )
