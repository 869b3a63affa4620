"""One form of call: runs a step in any mode. Holds no state of any request."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor

from fouriercache.calls import Call
from fouriercache.methods import Method
from fouriercache.program import Role, Slot
from fouriercache.runtime.conditioning import Conditioning, Hoisted
from fouriercache.runtime.feeds import Feeds, Given, controls_of
from fouriercache.runtime.gram import inner_products
from fouriercache.runtime.parts import Parts, StepForm
from fouriercache.runtime.pass_state import PassState
from fouriercache.runtime.probe import Look, Probe
from fouriercache.runtime.session import Plan, Session
from fouriercache.runtime.sums import MOST_STEPS, SumsAhead
from fouriercache.schedules import PerSite
from fouriercache.steps import ModeKey


@dataclass(frozen=True)
class Outcome:
    """What one step gave: the model's flat results, what is to be kept of the sites, by column, and the new states."""

    results: tuple[Tensor, ...]
    values: Mapping[str, Tensor]
    states: Mapping[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class InputNames:
    """The names of a call's tensors, in order, and which are what."""

    all: tuple[str, ...]
    stamp: str
    sample: tuple[str, ...]
    conditioning: tuple[str, ...]

    def named(self, call: Call) -> dict[str, Tensor]:
        """The call's tensors by input name."""
        return dict(zip(self.all, call.tensors, strict=True))


class Stepper:
    """Runs the steps of one form of call.

    Attributes:
        names: of the call's tensors.
        depths: how many of its newest values are read of each column. unread: columns of which no step reads any. kept:
            the others.
        questions: what the model asked of its inputs when it was captured; None if it asked nothing.
        mark: tells what this one made from what another did, and holds nothing.
    """

    def __init__(self, form: StepForm, method: Method) -> None:
        self._form, self._method = form, method
        self.mark, self.questions = object(), form.questions
        (stamp,) = _names_of(form, "timestep")
        every = tuple(given.name for given in form.inputs)
        self.names = InputNames(every, stamp, _names_of(form, "sample"), _names_of(form, "conditioning"))
        self.depths: dict[str, int] = {}
        for slot in form.slots.values():
            self.depths[slot.column] = max(slot.age + 1, self.depths.get(slot.column, 0))
        self.places = form.places
        self.unread = unread_columns(method, form.columns)
        self.kept = self.depths.keys() - self.unread
        self._runners = {key: _ModeRunner(form.build(key), form.slots) for key in form.keys}
        self._lock = threading.Lock()
        indicator = method.schedule.indicator
        self.probe = Probe(form.probe, indicator, stamp) if form.probe and indicator else None

    def dynamic_sizes(self, call: Call) -> tuple[int, ...] | None:
        """The call's dynamic sizes; None when this was not made for such calls."""
        return self._form.sizes(call)

    def rebuild(self, results: Sequence[Tensor]) -> Any:
        """Return the results in the model's own output type."""
        return self._form.rebuild(results)

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

    def look(
        self,
        named: Mapping[str, Tensor],
        kept: Hoisted,
        stamp: tuple[float, ...],
        prepared: Sequence[float],
        states: Mapping[str, Tensor],
        *,
        is_compared: bool,
    ) -> Look:
        """Look at the indicator, where there is a probe; see `Probe.look`.

        Nothing is kept but what depends on timestep and conditioning alone.
        """
        assert self.probe is not None
        with self._form.gate:
            return self.probe.look(named, kept, stamp, lambda: prepared, states, is_compared=is_compared)

    def run(
        self,
        plan: Plan,
        named: Mapping[str, Tensor],
        state: PassState,
        stamp: tuple[float, ...],
        session: Session,
    ) -> Outcome:
        """Run one step as it was planned.

        Args:
            named: the call's tensors by input name.
            state: what the pass holds; its ring may hold fewer than the history, as the coefficients of the missing
                ones are 0. Only its hoisted values are changed.
            stamp: the timestep's values. session: asked for what it knows of the steps to come.

        Raises:
            MethodError: the coefficients are of another number of sites than the model has.
        """
        key: ModeKey = (plan.mode, plan.refreshed)
        runner = self._runner(key)
        hoisted: Mapping[str, Tensor] = {}
        with self._form.gate, nullcontext() if self._form.has_gradients else torch.no_grad():
            same = stamp[:1] if stamp.count(stamp[0]) == len(stamp) else stamp
            kept = state.hoisted.setdefault(key, Hoisted())
            if not runner.conditioning.is_empty:
                ahead = partial(session.timesteps_ahead, plan, is_restless=state.is_restless)
                hoisted = runner.conditioning.values(kept, named, self.names.stamp, same, ahead)
            return runner.run(plan, named, hoisted, state, kept, session)

    def _runner(self, key: ModeKey) -> _ModeRunner:
        """What runs a mode; those in which single sites are computed are built when they are first asked for."""
        with self._lock:
            if key not in self._runners:
                self._runners[key] = _ModeRunner(self._form.build(key), self._form.slots)
            return self._runners[key]


def _names_of(form: StepForm, role: Role) -> tuple[str, ...]:
    return tuple(given.name for given in form.inputs if given.role == role)


def unread_columns(method: Method, columns: Sequence[Sequence[str]]) -> frozenset[str]:
    """Of the columns of each site, those that no step of the method reads: their sites are computed at every step."""
    if not isinstance(method.schedule, PerSite) or method.predictor.needs_gram:
        return frozenset()
    return frozenset(name for site in method.schedule.uncached if site < len(columns) for name in columns[site])


class _ModeRunner:
    """One mode's executables."""

    def __init__(self, parts: Parts, slots: Mapping[str, Slot]) -> None:
        self.conditioning = Conditioning(parts.context, parts.timed, parts.rows)
        self._moving, self._outputs = parts.moving, parts.outputs
        self._feeds = Feeds(slots, parts.table)
        self._wanted = self._feeds.wanted(parts.moving.inputs)
        self._has_controls = any(given.role == "control" for given in parts.moving.inputs)
        self._ahead, self._may_sum = parts.ahead, True
        self._sums: SumsAhead | None = None
        self._lock = threading.Lock()

    def run(
        self,
        plan: Plan,
        named: Mapping[str, Tensor],
        hoisted: Mapping[str, Tensor],
        state: PassState,
        kept: Hoisted,
        session: Session,
    ) -> Outcome:
        moving, wanted = self._moving, self._wanted
        made = None
        if plan.mode == "reuse" and not torch.is_grad_enabled() and not state.is_restless:
            made = self._sums_of(plan, named, state, kept, session)
        if made is not None and self._sums is not None:
            moving, wanted, hoisted = self._sums.rest, self._sums.wanted, {**hoisted, **made}
        if self._has_controls:
            named = {**named, **controls_of(plan, next(iter(named.values())).device)}
        found = moving(self._feeds.values(wanted, Given(named, hoisted, plan.coefficients, state)))
        by_role: dict[str, dict[str, Tensor]] = {"result": {}, "slot": {}, "state": {}}
        for output, value in zip(self._outputs, found, strict=True):
            by_role[output.role][output.name] = value
        return Outcome(tuple(by_role["result"].values()), by_role["slot"], by_role["state"])

    def _sums_of(
        self, plan: Plan, named: Mapping[str, Tensor], state: PassState, kept: Hoisted, session: Session
    ) -> Mapping[str, Tensor] | None:
        """The step's sums, where it need not make its own; what makes them is built when there are steps to serve."""
        made = None if self._sums is None else self._sums.find(plan, kept)
        if made is None and self._may_sum and len(steps := session.following(plan, MOST_STEPS)) > 1:
            with self._lock:
                if self._sums is None and (parts := self._ahead()):
                    self._sums = SumsAhead(parts, self._feeds)
                self._may_sum = self._sums is not None
            if self._sums is not None:
                made = self._sums.make(plan, steps, named, state, self.conditioning, kept)
        return made
