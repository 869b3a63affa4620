"""FORA and TaylorSeer against their published bookkeeping, written out again: which step, which differences, which sum.

The goldens pin one setting each; here are others, at the ends of what can be set.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from math import factorial
from typing import Any

import pytest
from torch import Tensor

import fouriercache as fc
from tests.tiny import ROUNDING, BruteForce, denoise, distance, tiny_dit


@dataclass
class Rule(ABC):
    """When to compute, by step index i = T - 1 ... 0, and whether to extrapolate."""

    num_steps: int
    interval: int

    @abstractmethod
    def is_full(self, i: int, since_full: int) -> bool:
        """Whether step i is computed, `since_full` steps after the last that was."""


class ForaRule(Rule):
    """FORA, src/models.py."""

    order, first_enhance = 0, 1

    def is_full(self, i: int, since_full: int) -> bool:
        return i == self.num_steps - 1 or i % self.interval == 0


@dataclass
class TaylorSeerRule(Rule):
    """TaylorSeer-DiT, cache_functions/cal_type.py."""

    order: int
    first_enhance: int

    def is_full(self, i: int, since_full: int) -> bool:
        return i > self.num_steps - self.first_enhance - 1 or since_full == self.interval - 1


class Published(BruteForce):
    """The DiT by hand, with the features kept as taylor_utils/__init__.py keeps them: a list of differences."""

    def __init__(self, model: Any, rule: Any) -> None:
        super().__init__(model)
        self.rule = rule
        self.full_steps: list[int] = []
        self.since_full = 0
        self.factors: dict[Any, list[Tensor]] = {}

    def __call__(self, hidden_states: Tensor, timestep: Tensor, class_labels: Tensor) -> Any:
        self.i = self.rule.num_steps - 1 - self.step
        self.is_full = self.rule.is_full(self.i, self.since_full)
        self.since_full = 0 if self.is_full else self.since_full + 1
        if self.is_full:
            self.full_steps.append(self.i)
        return super().__call__(hidden_states, timestep, class_labels)

    def _branch(self, module: Any, x: Tensor) -> Tensor:
        if not self.is_full:
            away = self.i - self.full_steps[-1]
            terms: list[Tensor] = [factor * (away**n / factorial(n)) for n, factor in enumerate(self.factors[module])]
            return sum(terms[1:], start=terms[0])
        old: list[Tensor] = self.factors.get(module, [])
        new: list[Tensor] = [module(x)]
        for n in range(self.rule.order):
            if n >= len(old) or self.i >= self.rule.num_steps - self.rule.first_enhance + 1:
                break
            new.append((new[n] - old[n]) / (self.full_steps[-1] - self.full_steps[-2]))
        self.factors[module] = new
        return new[0]


RULES = [
    ForaRule(50, 5),
    ForaRule(7, 20),
    TaylorSeerRule(50, 4, order=4, first_enhance=2),
    TaylorSeerRule(9, 3, order=6, first_enhance=5),
    TaylorSeerRule(20, 2, order=1, first_enhance=1),
    TaylorSeerRule(13, 5, order=0, first_enhance=3),
]


@pytest.mark.parametrize("rule", RULES, ids=repr)
def test_is_what_the_published_bookkeeping_gives(rule):
    model = tiny_dit(seed=3)
    is_fora = isinstance(rule, ForaRule)
    method = fc.FORA(rule.interval) if is_fora else fc.TaylorSeer(rule.interval, rule.order, warmup=rule.first_enhance)
    fast, published = fc.optimize(model, method, num_steps=rule.num_steps), Published(model, rule)
    timesteps = [980 - 19 * step for step in range(rule.num_steps)]
    assert distance(denoise(fast, timesteps=timesteps), denoise(published, timesteps=timesteps)) < ROUNDING
    assert fast.schedule == tuple(rule.num_steps - 1 - i for i in published.full_steps)
