"""One captured module for many methods: capturing takes longer than sampling a few images.

Which steps are computed, and with what scalars the others are predicted, is data that the captured programs take. So
methods of one form share a module, and schedule and predictor are exchanged between trajectories.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Any, ClassVar

from torch import nn

import fouriercache as fc
from fouriercache.indicators import Indicator
from fouriercache.predictors import Coefficients
from fouriercache.schedules import SiteSchedule


@dataclass(frozen=True, eq=False)
class _Schedule:
    """Decides as the method of the moment does."""

    name: ClassVar[str] = "exchanged"
    indicator: Indicator | None
    current: list[fc.Method] = field(default_factory=list)

    @property
    def needs_num_steps(self) -> bool:
        return self.current[0].schedule.needs_num_steps

    def steps(self, num_steps: int | None) -> None:  # the protocol's signature
        return None

    def decide(self, step: int, num_steps: int | None, before: fc.Decision, distance: Callable[[], float]) -> Any:
        return self.current[0].schedule.decide(step, num_steps, before, distance)


@dataclass(frozen=True, eq=False)
class _Predictor:
    """Answers as the predictor of the method of the moment does; all have one form."""

    name: ClassVar[str] = "exchanged"
    history: int
    edges: tuple[float, ...]
    per_site: bool
    needs_gram: bool
    current: list[fc.Method] = field(default_factory=list)

    def table(self, *question: Any) -> Coefficients:
        return self.current[0].predictor.table(*question)


class Exchange:
    """Optimised modules of one model, by the form of their methods."""

    def __init__(self, model: nn.Module, num_steps: int) -> None:
        self._model, self._num_steps = model, num_steps
        self._known: dict[Hashable, tuple[list[fc.Method], fc.OptimizedModule]] = {}

    def module_for(self, method: fc.Method) -> fc.OptimizedModule:
        """Return a module that runs `method` from the next trajectory on, until it is asked for another.

        A schedule that computes single sites makes programs of its own, so it gets a module of its own.
        """
        if isinstance(method.schedule, SiteSchedule):
            return fc.optimize(self._model, method, num_steps=self._num_steps)
        p = method.predictor
        form = (p.history, p.edges, p.per_site, p.needs_gram)
        key = (method.site, method.codec, method.tokens, method.schedule.indicator, form)
        if key not in self._known:
            current = [method]
            shared = method.with_(
                schedule=_Schedule(method.schedule.indicator, current), predictor=_Predictor(*form, current)
            )
            self._known[key] = (current, fc.optimize(self._model, shared, num_steps=self._num_steps))
        current, fast = self._known[key]
        current[:] = [method]
        fast.reset()
        return fast
