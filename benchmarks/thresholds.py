"""Thresholds with which adaptive peers compute as many steps as are asked, found on one recorded trajectory."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import combinations, pairwise
from typing import Any

import torch
from common import Model
from diffusers import SeaCacheConfig
from diffusers.hooks.sea_cache import _apply_sea_filter
from torch import Tensor
from torch.nn import Module


@dataclass(frozen=True)
class Recorded:
    """What adaptive peers decide by, at every step of the uncached trajectory: latents, and residuals of block 0."""

    timesteps: list[float]
    latents: list[Tensor]
    residuals: list[Tensor]

    @classmethod
    @torch.no_grad()
    def of(cls, model: Model, run: Callable[[], object]) -> Recorded:
        """Watch the model while `run` runs the uncached loop once."""
        found = cls([], [], [])

        def look(_: Module, args: tuple[Any, ...], given: Mapping[str, Any]) -> None:
            found.timesteps.append(float(given["timestep"][0]))
            found.latents.append(given["hidden_states"] if "hidden_states" in given else args[0])

        block = model.transformer_blocks[0]
        watched = [
            model.register_forward_pre_hook(look, with_kwargs=True),
            block.register_forward_hook(lambda _, given, result: found.residuals.append(result - given[0])),
        ]
        try:
            run()
        finally:
            for hook in watched:
                hook.remove()
        return found


def flow_level(timestep: float) -> float:
    """The noise level of a rectified flow, 0 to 1, of which 1000 is pure noise."""
    return timestep / 1000


def find_first_block_threshold(recorded: Recorded, computed: int) -> float:
    """Return the threshold with which FirstBlockCache computes `computed` steps of the uncached trajectory.

    Its rule is followed on the recorded residuals of block 0: a step is computed when the mean absolute change since
    the last computed step, over the mean absolute residual there, is above the threshold.
    """
    residuals = recorded.residuals
    distances = [[float((late - early).abs().mean() / early.abs().mean()) for late in residuals] for early in residuals]

    def count_steps(threshold: float) -> int:
        last, found = 0, 1
        for step in range(1, len(residuals)):
            if distances[last][step] > threshold:
                last, found = step, found + 1
        return found

    candidates = sorted({value for row in distances for value in row})
    return min(candidates, key=lambda threshold: abs(count_steps(threshold) - computed))


def find_sea_threshold(recorded: Recorded, computed: int, level: Callable[[float], float] = flow_level) -> float:
    """Return the threshold with which SeaCache computes `computed` steps of the uncached trajectory.

    `level` is the noise level of a timestep.

    Its rule is followed on the recorded latents: the relative changes of the filtered latents from step to step are
    summed up, and a step is computed when the sum reaches the threshold, where it begins anew. The first and the last
    step are always computed. Of the thresholds that do it, the middle one, as a cached trajectory differs a little.
    """
    seen = [
        [
            _apply_sea_filter(frame.movedim(0, -1), sigma=level(timestep), power_exp=SeaCacheConfig.power_exp)
            for frame in frames(latents)
        ]
        for timestep, latents in zip(recorded.timesteps, recorded.latents, strict=True)
    ]
    changes = [
        sum(float((a - b).abs().mean() / b.abs().mean()) for a, b in zip(late, early, strict=True)) / len(late)
        for early, late in pairwise(seen)
    ]

    def count_steps(threshold: float) -> int:
        total, found = 0.0, 2
        for change in changes[:-1]:
            total += change
            if total >= threshold:
                total, found = 0.0, found + 1
        return found

    sums = sorted({sum(changes[first:last]) for first, last in combinations(range(len(changes) + 1), 2)})
    candidates = [(low + high) / 2 for low, high in pairwise(sums)]
    off = [abs(count_steps(threshold) - computed) for threshold in candidates]
    best = [threshold for threshold, by in zip(candidates, off, strict=True) if by == min(off)]
    return best[len(best) // 2]


def frames(latents: Tensor) -> list[Tensor]:
    """Samples [C, H, W] of a batch as SeaCache takes them: [C, 1, H, W]."""
    return list(latents.unsqueeze(2))
