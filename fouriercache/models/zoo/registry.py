"""Every example, and how a model is made of one."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any

import torch
from torch import nn

from fouriercache.models.zoo import audio, flux_like, images, streams, videos, wan_like, worlds
from fouriercache.models.zoo.example import Example

EXAMPLES: Mapping[str, Example] = {
    example.name: example
    for room in (images, flux_like, streams, wan_like, videos, audio, worlds)
    for example in room.EXAMPLES
}
"""Every example, by the name of its class."""


def build(name: str, depth: int = 2, seed: int = 0) -> tuple[nn.Module, dict[str, Any]]:
    """Build an example: the model in eval mode, and keyword arguments of one call.

    Weights that a model begins with at zero (gates, last layers) are drawn anew, or they would hide what is computed
    behind them.

    Args:
        depth: blocks in each of the model's lists; at least 1.

    Raises:
        KeyError: there is no example of this name.
    """
    example = EXAMPLES[name]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model: nn.Module = getattr(import_module(example.module), name)(**example.config(depth))
        for parameter in model.parameters():
            if not parameter.any():
                nn.init.normal_(parameter, std=0.1)
        call = example.inputs()
    return model.eval(), call
