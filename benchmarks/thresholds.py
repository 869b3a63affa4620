"""Thresholds with which adaptive peers compute as many steps as are asked, found on one recorded trajectory."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations, pairwise

import torch
from common import Inputs, Model
from diffusers import SeaCacheConfig
from diffusers.hooks.sea_cache import _apply_sea_filter
from torch import Tensor


@dataclass(frozen=True)
class Recorded:
    """What adaptive peers decide by, at every step of the uncached trajectory: latents, and residuals of block 0."""

    timesteps: tuple[int, ...]
    latents: list[Tensor]
    residuals: list[Tensor]

    @classmethod
    @torch.no_grad()
    def of(cls, model: Model, inputs: Inputs) -> Recorded:
        """Run the uncached loop once."""
        found = cls(inputs.timesteps, [], [])
        block = model.transformer_blocks[0]
        watched = block.register_forward_hook(lambda _, given, result: found.residuals.append(result - given[0]))
        latents = inputs.noise
        for step in range(len(inputs.timesteps)):
            found.latents.append(latents)
            latents = latents - model(**inputs.call(latents, step)).sample / len(inputs.timesteps)
        watched.remove()
        return found


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


def find_sea_threshold(recorded: Recorded, computed: int) -> float:
    """Return the threshold with which SeaCache computes `computed` steps of the uncached trajectory.

    Its rule is followed on the recorded latents: the relative changes of the filtered latents from step to step are
    summed up, and a step is computed when the sum reaches the threshold, where it begins anew. The first and the last
    step are always computed. Of the thresholds that do it, the middle one, as a cached trajectory differs a little.
    """
    seen = [
        [
            _apply_sea_filter(frame.movedim(0, -1), sigma=timestep / 1000, power_exp=SeaCacheConfig.power_exp)
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
