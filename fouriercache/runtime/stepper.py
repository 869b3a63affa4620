"""One form of call: runs a step in any mode. Holds no state of any request."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from fouriercache.calls import Call
from fouriercache.errors import MethodError
from fouriercache.methods import Method
from fouriercache.predictors import Coefficients
from fouriercache.program import Slot
from fouriercache.runtime.conditioning import Conditioning, Hoisted
from fouriercache.runtime.gram import inner_products
from fouriercache.runtime.parts import Parts, StepForm
from fouriercache.runtime.pass_state import PassState
from fouriercache.runtime.probe import Probe
from fouriercache.runtime.session import Plan
from fouriercache.schedules import PerSite
from fouriercache.steps import ModeKey


@dataclass(frozen=True)
class Outcome:
    """What one step gave: the model's flat results, what is to be kept of the sites, by column, and the new states."""

    results: tuple[Tensor, ...]
    values: Mapping[str, Tensor]
    states: Mapping[str, Tensor] = field(default_factory=dict)


class Stepper:
    """Runs the steps of one form of call.

    Attributes:
        depths: how many of its newest values are read of each column. unread: columns of which no step reads any.
        questions: what the model asked of its inputs when it was captured; None if it asked nothing.
    """

    def __init__(self, form: StepForm, method: Method) -> None:
        self._form, self._method = form, method
        self._names = tuple(given.name for given in form.inputs)
        roles = {given.role: given.name for given in form.inputs}
        self.sample_names = tuple(given.name for given in form.inputs if given.role == "sample")
        self.stamp_name, self.questions = roles["timestep"], form.questions
        self.conditioning_names = tuple(given.name for given in form.inputs if given.role == "conditioning")
        self.depths: dict[str, int] = {}
        for slot in form.slots.values():
            self.depths[slot.column] = max(slot.age + 1, self.depths.get(slot.column, 0))
        self.places = form.places
        self.unread = unread_columns(method, form.columns)
        self._runners = {key: _ModeRunner(form.build(key), form.slots) for key in form.keys}
        self._lock = threading.Lock()
        indicator = method.schedule.indicator
        self.probe = Probe(form.probe, indicator, self.stamp_name) if form.probe and indicator else None

    def dynamic_sizes(self, call: Call) -> tuple[int, ...] | None:
        """The call's dynamic sizes; None when this was not made for such calls."""
        return self._form.sizes(call)

    def named(self, call: Call) -> dict[str, Tensor]:
        """The call's tensors by input name."""
        return dict(zip(self._names, call.tensors, strict=True))

    def rebuild(self, results: Sequence[Tensor]) -> Any:
        """Return the results in the model's own output type."""
        return self._form.rebuild(results)

    def computed(self, num_steps: int) -> tuple[int, ...] | None:
        """The steps that the schedule computes, None if that shows when they run."""
        return self._method.schedule.steps(num_steps)

    def products(
        self, values: Mapping[str, Tensor], ring: Mapping[str, Sequence[Tensor]]
    ) -> tuple[tuple[float, ...], ...]:
        """What a predictor with `needs_gram` asks for after a computed step, see `Session.commit`; () for others."""
        predictor = self._method.predictor
        if not predictor.needs_gram:
            return ()
        columns = [[name for name in names if name in values] for names in self._form.columns]
        older = {name: kept[: predictor.history - 1] for name, kept in ring.items()}
        return inner_products(values, older, [names[0] if names else None for names in columns])

    def run(
        self,
        plan: Plan,
        named: Mapping[str, Tensor],
        state: PassState,
        stamp: tuple[float, ...],
        ahead: Callable[[], Sequence[float]],
    ) -> Outcome:
        """Run one step as it was planned.

        Args:
            named: the call's tensors by input name.
            state: what the pass holds; its ring may hold fewer than the history, as the coefficients of the missing
                ones are 0. Only its hoisted values are changed.
            stamp: the timestep's values. ahead: asked for timesteps to hoist in one batch, when there is something to.

        Raises:
            MethodError: the coefficients are of another number of sites than the model has.
        """
        key: ModeKey = (plan.mode, plan.refreshed)
        runner = self._runner(key)
        hoisted: Mapping[str, Tensor] = {}
        with nullcontext() if self._form.has_gradients else torch.no_grad():
            if not runner.conditioning.is_empty:
                same = stamp[:1] if stamp.count(stamp[0]) == len(stamp) else stamp
                kept = state.hoisted.setdefault(key, Hoisted())
                hoisted = runner.conditioning.values(kept, named, self.stamp_name, same, ahead)
            return runner.run(plan, named, hoisted, state)

    def _runner(self, key: ModeKey) -> _ModeRunner:
        """What runs a mode; those in which single sites are computed are built when they are first asked for."""
        with self._lock:
            if key not in self._runners:
                self._runners[key] = _ModeRunner(self._form.build(key), self._form.slots)
            return self._runners[key]


def unread_columns(method: Method, columns: Sequence[Sequence[str]]) -> frozenset[str]:
    """Of the columns of each site, those that no step of the method reads: their sites are computed at every step."""
    if not isinstance(method.schedule, PerSite) or method.predictor.needs_gram:
        return frozenset()
    return frozenset(name for site in method.schedule.uncached if site < len(columns) for name in columns[site])


class _ModeRunner:
    """One mode's executables, and where each input of its moving part comes from."""

    def __init__(self, parts: Parts, slots: Mapping[str, Slot]) -> None:
        self.conditioning = Conditioning(parts.context, parts.timed, parts.rows)
        self._moving, self._outputs, self._table = parts.moving, parts.outputs, parts.table
        self._slots = slots
        self._has_controls = any(given.role == "control" for given in parts.moving.inputs)
        # those of a trajectory come back in the next one, and a host waits while they are sent to a GPU
        self._scalars = lru_cache(maxsize=1024)(_tensor)

    def run(
        self,
        plan: Plan,
        named: Mapping[str, Tensor],
        hoisted: Mapping[str, Tensor],
        state: PassState,
    ) -> Outcome:
        device = next(iter(named.values())).device
        controls = _controls(plan) if self._has_controls else {}
        values: list[Tensor] = []
        for given in self._moving.inputs:
            if given.role == "slot":
                slot = self._slots[given.name]
                kept = state.ring[slot.column]
                values.append(kept[min(slot.age, len(kept) - 1)])
            elif given.role == "hoisted":
                values.append(hoisted[given.name.removeprefix("hoisted_")])
            elif given.role == "coefficients":
                values.append(self._scalars(self._rows(plan.coefficients), device))
            elif given.role == "state":
                values.append(state.states[given.name].to(device))
            elif given.role == "control":
                values.append(controls[given.name].to(device))
            else:
                values.append(named[given.name])
        found = self._moving(values)
        by_role: dict[str, dict[str, Tensor]] = {"result": {}, "slot": {}, "state": {}}
        for output, value in zip(self._outputs, found, strict=True):
            by_role[output.role][output.name] = value
        return Outcome(tuple(by_role["result"].values()), by_role["slot"], by_role["state"])

    def _rows(self, coefficients: Coefficients) -> Coefficients | tuple[float, ...]:
        """The scalars in the shape of the graph's input: one row, or [sites or 1][bands][K]."""
        if len(self._table) == 1:
            return coefficients[0][0]
        if len(coefficients) not in (1, self._table[0]):
            raise MethodError(
                f"the predictor has scalars for {len(coefficients)} sites, the model has {self._table[0]}.\n"
                "  Calibrate for this model and kind of site, or use a predictor that does not tell sites apart."
            )
        return coefficients * self._table[0] if len(coefficients) == 1 else coefficients


def _controls(plan: Plan) -> dict[str, Tensor]:
    """The inputs that say which ranks of its tokens each site computes, and at which step.

    int64[count] for a site that computes some, and int64[].
    """
    ranks = {f"ranks_{site}": torch.arange(count) for site, count in enumerate(plan.counts)}
    return {**ranks, "step": torch.tensor(plan.position.step)}


def _tensor(scalars: Coefficients | tuple[float, ...], device: torch.device) -> Tensor:
    with torch.inference_mode(False):  # it is used with and without
        return torch.tensor(scalars, dtype=torch.float32, device=device)
