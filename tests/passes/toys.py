"""Transformers of a few lines, to trace in milliseconds: each block is what a test makes of `mix` and `feed`."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

WIDTH = 8
X = torch.randn(2, 6, WIDTH, generator=torch.Generator().manual_seed(0))
TEXT = torch.randn(2, 3, WIDTH, generator=torch.Generator().manual_seed(1))
TIMESTEP = torch.tensor([[0.3], [0.7]]).expand(2, WIDTH).contiguous()


class Block(nn.Module):
    """Attention and MLP, and a forward that the test gives."""

    def __init__(self, forward: Callable[..., object]) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(WIDTH)
        self.qkv = nn.Linear(WIDTH, 3 * WIDTH)
        self.up = nn.Linear(WIDTH, 2 * WIDTH)
        self.down = nn.Linear(2 * WIDTH, WIDTH)
        self.modulation = nn.Linear(WIDTH, 3 * WIDTH)
        self._forward = forward

    def forward(self, *arguments: Tensor) -> object:
        return self._forward(self, *arguments)

    def attend(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(self.norm(x)).chunk(3, -1)
        return F.scaled_dot_product_attention(q, k, v)

    def feed(self, x: Tensor) -> Tensor:
        hidden: Tensor = self.down(F.gelu(self.up(self.norm(x))))
        return hidden

    def modulate(self, timestep: Tensor) -> tuple[Tensor, ...]:
        return torch.chunk(self.modulation(timestep)[:, None], 3, -1)


class Model(nn.Module):
    """Blocks in a list; between an embedding and a head, unless the model is `bare`."""

    def __init__(self, forward: Callable[..., object], depth: int = 2, bare: bool = False) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.blocks = nn.ModuleList([Block(forward) for _ in range(depth)])
            self.embed = nn.Identity() if bare else nn.Linear(WIDTH, WIDTH)
            self.head = nn.Identity() if bare else nn.Linear(WIDTH, WIDTH)
        self.eval()

    def forward(self, x: Tensor, condition: Tensor | None = None) -> tuple[Tensor, ...]:
        x = self.embed(x)
        for block in self.blocks:
            x = block(x) if condition is None else block(x, condition)
        return (self.head(x),)


def plain(block: Block, x: Tensor) -> Tensor:
    """Attention, then MLP."""
    x = x + block.attend(x)
    return x + block.feed(x)


def gated(block: Block, x: Tensor, timestep: Tensor) -> Tensor:
    """The same with gates, as adaLN-zero has them."""
    shift, first, second = block.modulate(timestep)
    x = x + first * block.attend(x + shift)
    return x + block.feed(x) * second
