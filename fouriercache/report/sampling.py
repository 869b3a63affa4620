"""Denoising loops that take turns, so that whatever else the machine does falls on all of them alike."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from fouriercache.models.demo import NULL_CLASS, load_demo_scheduler

_TURN = 5
"""Steps a loop runs before the next loop has its turn."""


@dataclass(frozen=True)
class Request:
    """What to sample: labels int64 [n], noise float32 [n, 3, 32, 32], and how."""

    labels: Tensor
    noise: Tensor
    steps: int
    guidance: float

    @classmethod
    def draw(cls, *, classes: int, seed: int, steps: int, guidance: float) -> Request:
        """One image of each class; the noise is drawn on the CPU, so a seed means the same everywhere."""
        generator = torch.Generator().manual_seed(seed)
        return cls(torch.arange(classes), torch.randn(classes, 3, 32, 32, generator=generator), steps, guidance)


class SamplingLoop:
    """A DDIM loop with classifier-free guidance, both halves in one batch, that can stop between any two steps.

    Attributes:
        latents: [n, 3, 32, 32] after each step done so far.
        seconds: wall time of the steps done so far.
    """

    def __init__(
        self, module: nn.Module, request: Request, prepare: Callable[[Sequence[float]], None] | None = None
    ) -> None:
        """`prepare`, if given, is told the timesteps before the first step; it is timed as a part of the loop."""
        self._module = module
        self._prepare = prepare
        self._request = request
        self._scheduler: Any = load_demo_scheduler()
        self._scheduler.set_timesteps(request.steps)
        self._classes = torch.cat([request.labels, torch.full_like(request.labels, NULL_CLASS)])
        self.latents: list[Tensor] = []
        self.seconds = 0.0

    @property
    def is_done(self) -> bool:
        """Whether all steps have been done."""
        return len(self.latents) == self._request.steps

    @torch.no_grad()
    def advance(self, count: int) -> None:
        """Do up to `count` more steps."""
        timesteps = self._scheduler.timesteps[len(self.latents) :][:count]
        current = self.latents[-1] if self.latents else self._request.noise * self._scheduler.init_noise_sigma
        started = time.perf_counter()
        if self._prepare is not None and not self.latents:
            self._prepare(self._scheduler.timesteps.tolist())
        for timestep in timesteps:
            both = self._scheduler.scale_model_input(torch.cat([current, current]), timestep)
            v = self._module(both, timestep=timestep.expand(both.shape[0]), class_labels=self._classes).sample
            of_class, of_null = v.chunk(2)
            v = of_null + self._request.guidance * (of_class - of_null)
            current = self._scheduler.step(v, timestep, current).prev_sample
            self.latents.append(current)
        self.seconds += time.perf_counter() - started


def take_turns(loops: Sequence[SamplingLoop], on_turn: Callable[[int], None]) -> None:
    """Run all loops to their end, `_TURN` steps at a time.

    Who begins a round moves on by one from round to round, so that no loop always follows the same other one.

    Args:
        on_turn: called with the index of the loop that has just had its turn.
    """
    first = 0
    while not all(loop.is_done for loop in loops):
        for offset in range(len(loops)):
            index = (first + offset) % len(loops)
            loops[index].advance(_TURN)
            on_turn(index)
        first += 1


def relative_error(value: Tensor, reference: Tensor) -> float:
    """Return ||value - reference|| / ||reference||, both norms L2 over all elements, in float64."""
    difference = (value.double() - reference.double()).norm()
    return float(difference / reference.double().norm())
