"""DiT as published, as a plain torch module."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from plain.parts import (
    Context,
    FinalLayer,
    Mlp,
    TimestepEmbedder,
    join_heads,
    modulate,
    modulation,
    plain_norm,
    split_heads,
)


@dataclass(frozen=True)
class DiTShape:
    """The size of a DiT on square latents with patches of 2 x 2."""

    layers: int
    width: int
    heads: int
    latent: int
    channels: int = 4
    classes: int = 1000

    @property
    def name(self) -> str:
        """In words: `DiT 28 x 1152, 256 tokens`."""
        return f"DiT {self.layers} x {self.width}, {(self.latent // 2) ** 2} tokens"

    def shallow(self) -> DiTShape:
        """The same with few blocks, for a reference on the CPU."""
        return replace(self, layers=min(self.layers, 4))

    def build(self) -> PlainDiT:
        """Return the model, its weights drawn as torch draws them by default: every gate is open."""
        return PlainDiT(self)

    def noise(self, batch: int) -> tuple[int, ...]:
        """The latents' shape."""
        return (batch, self.channels, self.latent, self.latent)

    def conditioning(self, batch: int, generator: torch.Generator) -> dict[str, Tensor]:
        """Keyword arguments of a call beside latents and timestep; one in two labels is the null class."""
        labels = torch.randint(self.classes, (batch,), generator=generator)
        return {"class_labels": labels.where(torch.arange(batch) % 2 == 0, self.classes)}


DIT_XL = DiTShape(layers=28, width=1152, heads=16, latent=32)
"""DiT-XL/2 at 256 x 256 pixels (Peebles and Xie, 2023)."""
DIT_TINY = DiTShape(layers=2, width=32, heads=2, latent=8, classes=10)


class _LabelEmbedder(nn.Module):
    def __init__(self, classes: int, width: int) -> None:
        super().__init__()
        self.embedding_table = nn.Embedding(classes + 1, width)

    def forward(self, labels: Tensor) -> Tensor:
        found: Tensor = self.embedding_table(labels)
        return found


class _Attention(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = split_heads(self.qkv(x), 3, self.heads)
        found: Tensor = self.proj(join_heads(F.scaled_dot_product_attention(query, key, value)))
        return found


class _DiTBlock(nn.Module):
    """adaLN-zero: attention and MLP, each between a modulated norm and a gate."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = plain_norm(width), plain_norm(width)
        self.attn, self.mlp = _Attention(width, heads), Mlp(width)
        self.adaLN_modulation = modulation(width, 6)

    def forward(self, x: Tensor, cond: Tensor) -> Tensor:
        shift1, scale1, gate1, shift2, scale2, gate2 = self.adaLN_modulation(cond).chunk(6, dim=1)
        x = x + gate1[:, None] * self.attn(modulate(self.norm1(x), shift1, scale1))
        out: Tensor = x + gate2[:, None] * self.mlp(modulate(self.norm2(x), shift2, scale2))
        return out


class _Patches(nn.Module):
    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(channels, width, kernel_size=2, stride=2)

    def forward(self, latents: Tensor) -> Tensor:
        found: Tensor = self.proj(latents)
        return found.flatten(2).transpose(1, 2)


class PlainDiT(nn.Module):
    """The published DiT (github.com/facebookresearch/DiT), its weights under the published names."""

    def __init__(self, shape: DiTShape) -> None:
        super().__init__()
        side = shape.latent // 2
        self.side, self.channels = side, shape.channels
        self.x_embedder = _Patches(shape.channels, shape.width)
        self.t_embedder = TimestepEmbedder(shape.width)
        self.y_embedder = _LabelEmbedder(shape.classes, shape.width)
        self.register_buffer("pos_embed", _grid_positions(shape.width, side).to(next(self.parameters())))
        self.blocks = nn.ModuleList(_DiTBlock(shape.width, shape.heads) for _ in range(shape.layers))
        self.final_layer = FinalLayer(shape.width, 4 * shape.channels)

    def embed(self, hidden_states: Tensor, timestep: Tensor, class_labels: Tensor) -> tuple[Tensor, Context]:
        """Tokens [batch, tokens, width], and the conditioning vector."""
        return self.x_embedder(hidden_states) + self.pos_embed, (
            self.t_embedder(timestep) + self.y_embedder(class_labels),
        )

    def stack(self, tokens: Tensor, context: Context) -> Tensor:
        """All blocks."""
        for block in self.blocks:
            tokens = block(tokens, *context)
        return tokens

    def finish(self, tokens: Tensor, context: Context) -> Tensor:
        """From tokens to latents."""
        patches = self.final_layer(tokens, *context)
        patches = patches.reshape(-1, self.side, self.side, 2, 2, self.channels)
        return torch.einsum("nhwpqc->nchpwq", patches).reshape(-1, self.channels, 2 * self.side, 2 * self.side)

    def forward(self, hidden_states: Tensor, timestep: Tensor, class_labels: Tensor) -> Tensor:
        """Latents [b, c, h, w], timesteps [b] from 0 to 999, labels [b] -> what is predicted of the latents."""
        tokens, context = self.embed(hidden_states, timestep, class_labels)
        return self.finish(self.stack(tokens, context), context)


def _grid_positions(width: int, side: int) -> Tensor:
    """Sines and cosines of rows and columns, [1, side * side, width]."""
    rates = 1 / 10000 ** (torch.arange(width // 4, dtype=torch.float64, device="cpu") / (width // 4))
    angles = torch.arange(side, dtype=torch.float64, device="cpu")[:, None] * rates
    line = torch.cat([angles.sin(), angles.cos()], dim=1)
    rows, columns = line[:, None].expand(-1, side, -1), line[None].expand(side, -1, -1)
    return torch.cat([columns, rows], dim=2).reshape(1, side * side, width)
