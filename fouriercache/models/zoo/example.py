"""What the zoo knows of a denoiser: its class, a small configuration of any depth, and one call."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

BATCH = 2
"""Every call of the zoo has two samples, unless the class takes no more than one."""


@dataclass(frozen=True)
class Example:
    """A denoiser of diffusers, small, with random weights.

    Attributes:
        name: the class.
        config: keywords of its constructor, for a number of blocks in each list.
        inputs: keyword arguments of one call, random tensors of the current seed.
        module: where the class is imported from.
    """

    name: str
    config: Callable[[int], dict[str, Any]]
    inputs: Callable[[], dict[str, Any]]
    module: str = "diffusers"


def noise(*shape: int) -> Tensor:
    """Float32 values of the normal distribution."""
    return torch.randn(*shape)


def steps(value: float = 500.0, batch: int = BATCH) -> Tensor:
    """The timestep of each sample, float32 [batch]."""
    return torch.full((batch,), value)


def ones(*shape: int) -> Tensor:
    """A mask that hides nothing, float32."""
    return torch.ones(*shape)


def grid_ids(height: int, width: int, axes: int = 3) -> Tensor:
    """The position of each token of a grid, float32 [height * width, axes]; the last two axes are row and column."""
    ids = torch.zeros(height, width, axes)
    ids[..., -2] = torch.arange(height)[:, None]
    ids[..., -1] = torch.arange(width)
    return ids.view(height * width, axes)
