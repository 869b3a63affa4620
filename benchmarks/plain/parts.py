"""What both models are made of."""

from __future__ import annotations

import math
from typing import TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Context: TypeAlias = tuple[Tensor, ...]
"""What the blocks and the end of a model read beside the tokens."""

FREQUENCIES = 256
"""Channels of the sinusoids that a timestep becomes, in both models."""


def sinusoids(values: Tensor, like: Tensor) -> Tensor:
    """[batch, FREQUENCIES] of cosines and sines, made in float32, as the weights are."""
    half = FREQUENCIES // 2
    rates = torch.exp(-math.log(10000) * torch.arange(half, dtype=torch.float32, device=like.device) / half)
    angles = values.to(device=like.device, dtype=torch.float32)[:, None] * rates
    return torch.cat([angles.cos(), angles.sin()], dim=-1).to(like.dtype)


def modulate(normed: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    return normed * (1 + scale[:, None]) + shift[:, None]


def split_heads(projected: Tensor, parts: int, heads: int) -> tuple[Tensor, ...]:
    """[b, n, parts * heads * size] -> `parts` times [b, heads, n, size]."""
    batch, tokens, _ = projected.shape
    return projected.reshape(batch, tokens, parts, heads, -1).permute(2, 0, 3, 1, 4).unbind(0)


def join_heads(mixed: Tensor) -> Tensor:
    """[b, heads, n, size] -> [b, n, heads * size]."""
    return mixed.transpose(1, 2).flatten(2)


class TimestepEmbedder(nn.Module):
    """Sinusoids and two linear layers."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.mlp = nn.Sequential(nn.Linear(FREQUENCIES, width), nn.SiLU(), nn.Linear(width, width))

    def forward(self, values: Tensor) -> Tensor:
        found: Tensor = self.mlp(sinusoids(values, next(self.parameters())))
        return found


class Mlp(nn.Module):
    """Four times as wide inside."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.fc2(F.gelu(self.fc1(x), approximate="tanh"))
        return found


def modulation(width: int, parts: int) -> nn.Sequential:
    return nn.Sequential(nn.SiLU(), nn.Linear(width, parts * width))


def plain_norm(width: int) -> nn.LayerNorm:
    return nn.LayerNorm(width, eps=1e-6, elementwise_affine=False)


class FinalLayer(nn.Module):
    """A modulated norm, and from tokens to what they stand for."""

    def __init__(self, width: int, channels: int) -> None:
        super().__init__()
        self.norm_final, self.linear = plain_norm(width), nn.Linear(width, channels)
        self.adaLN_modulation = modulation(width, 2)

    def forward(self, x: Tensor, cond: Tensor) -> Tensor:
        shift, scale = self.adaLN_modulation(cond).chunk(2, dim=1)
        found: Tensor = self.linear(modulate(self.norm_final(x), shift, scale))
        return found
