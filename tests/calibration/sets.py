"""A calibration set for the tiny DiT: a sampler whose result depends on its model at every step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from fouriercache.methods import Method
from fouriercache.presets import TaylorSeer
from tests.tiny import labels, noise, step_inputs

STEPS = 10
METHOD: Method = TaylorSeer(order=1, warmup=1, site="stack")


def timesteps(count: int = STEPS) -> list[float]:
    return [900.0 - 800.0 / count * step for step in range(count)]


def sampler(seed: int = 0, batches: int = 1, count: int = STEPS) -> Callable[[nn.Module], Tensor]:
    """Return a function that samples `batches` trajectories of two images each, one after the other."""

    def sample(denoiser: Any) -> Tensor:
        results = []
        with torch.no_grad():
            for batch in range(batches):
                x, classes = noise(seed=seed + batch), labels(first=1 + batch)
                for timestep in timesteps(count):
                    x = x - denoiser(**step_inputs(x, timestep, classes)).sample / 3
                results.append(x)
        return torch.cat(results)

    return sample
