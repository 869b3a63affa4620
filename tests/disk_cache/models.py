"""What the tests of captures on disk capture."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from tests.tiny import labels, noise, step_inputs


def dit_inputs(batch: int = 2, size: int = 8) -> dict[str, Tensor]:
    return step_inputs(noise(batch, size), 900, labels(batch))


class Small(nn.Module):
    """Two residual blocks, captured much faster than a DiT; `scale` says what the second is multiplied by."""

    def __init__(self, scale: Any = 1.0) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.blocks = nn.ModuleList(nn.Sequential(nn.Linear(3, 3), nn.ReLU(), nn.Linear(3, 3)) for _ in range(2))
        self.scale = scale
        self.eval()

    def forward(self, hidden_states: Tensor, timestep: Tensor) -> Any:
        x = hidden_states.flatten(2).transpose(1, 2) + timestep[:, None, None] / 1000
        for block in self.blocks:
            x = x + block(x) * (self.scale(self, x) if callable(self.scale) else self.scale)
        return x.transpose(1, 2)


def small_inputs() -> dict[str, Tensor]:
    return {"hidden_states": noise(), "timestep": torch.full((2,), 900.0)}
