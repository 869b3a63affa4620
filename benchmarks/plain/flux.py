"""FLUX as published, as a plain torch module."""

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
class FluxShape:
    """The size of a FLUX on a square grid of packed latents. `axes`: channels of a head for each rotary axis."""

    dual: int
    single: int
    width: int
    heads: int
    side: int
    text: int
    axes: tuple[int, ...] = (16, 56, 56)
    channels: int = 64
    text_width: int = 4096
    pooled: int = 768

    @property
    def name(self) -> str:
        """In words: `FLUX (19 + 38) x 3072, 4096 + 512 tokens`."""
        return f"FLUX ({self.dual} + {self.single}) x {self.width}, {self.side**2} + {self.text} tokens"

    def shallow(self) -> FluxShape:
        """The same with one block of each kind and few tokens, for a reference on the CPU."""
        return replace(self, dual=1, single=1, side=min(self.side, 16), text=min(self.text, 64))

    def build(self) -> PlainFlux:
        """Return the model, its weights drawn as torch draws them by default: every gate is open."""
        return PlainFlux(self)

    def noise(self, batch: int) -> tuple[int, ...]:
        """The latents' shape."""
        return (batch, self.side**2, self.channels)

    def conditioning(self, batch: int, generator: torch.Generator) -> dict[str, Tensor]:
        """Keyword arguments of a call beside latents and timestep."""
        return {
            "prompt": torch.randn(batch, self.text, self.text_width, generator=generator),
            "pooled": torch.randn(batch, self.pooled, generator=generator),
            "guidance": torch.full((batch,), 3.5),
        }


FLUX_DEV = FluxShape(dual=19, single=38, width=3072, heads=24, side=64, text=512)
"""FLUX.1-dev at 1024 x 1024 pixels."""
FLUX_TINY = FluxShape(
    dual=2, single=2, width=32, heads=2, side=4, text=6, axes=(4, 6, 6), channels=8, text_width=12, pooled=10
)


class _RotatedAttention(nn.Module):
    """Projections and norms of one stream; what is mixed with what is the block's matter."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.query_norm, self.key_norm = (nn.RMSNorm(width // heads, eps=1e-6) for _ in range(2))

    def split(self, x: Tensor) -> tuple[Tensor, ...]:
        query, key, value = split_heads(self.qkv(x), 3, self.heads)
        return self.query_norm(query), self.key_norm(key), value


def _rotate(x: Tensor, turns: Tensor) -> Tensor:
    """Turn pairs of channels, in float32: `turns` [2, tokens, size / 2] has cosines and sines."""
    even, odd = x.float().unflatten(-1, (-1, 2)).unbind(-1)
    cos, sin = turns.unbind(0)
    return torch.stack([even * cos - odd * sin, even * sin + odd * cos], dim=-1).flatten(-2).to(x.dtype)


def _mix(query: Tensor, key: Tensor, value: Tensor, turns: Tensor) -> Tensor:
    return join_heads(F.scaled_dot_product_attention(_rotate(query, turns), _rotate(key, turns), value))


class _Stream(nn.Module):
    """What a block with two streams has for each."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.mod, self.norm1, self.norm2 = modulation(width, 6), plain_norm(width), plain_norm(width)
        self.attn, self.mlp = _RotatedAttention(width, heads), Mlp(width)


class _DualBlock(nn.Module):
    """Image and text have weights of their own and meet in attention."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.img, self.txt = _Stream(width, heads), _Stream(width, heads)

    def forward(self, image: Tensor, text: Tensor, cond: Tensor, turns: Tensor) -> tuple[Tensor, Tensor]:
        i_shift1, i_scale1, i_gate1, i_shift2, i_scale2, i_gate2 = self.img.mod(cond).chunk(6, dim=1)
        t_shift1, t_scale1, t_gate1, t_shift2, t_scale2, t_gate2 = self.txt.mod(cond).chunk(6, dim=1)
        of_image = self.img.attn.split(modulate(self.img.norm1(image), i_shift1, i_scale1))
        of_text = self.txt.attn.split(modulate(self.txt.norm1(text), t_shift1, t_scale1))
        query, key, value = (torch.cat(pair, dim=2) for pair in zip(of_text, of_image, strict=True))
        mixed = _mix(query, key, value, turns)
        count = text.shape[1]
        image = image + i_gate1[:, None] * self.img.attn.proj(mixed[:, count:])
        image = image + i_gate2[:, None] * self.img.mlp(modulate(self.img.norm2(image), i_shift2, i_scale2))
        text = text + t_gate1[:, None] * self.txt.attn.proj(mixed[:, :count])
        text = text + t_gate2[:, None] * self.txt.mlp(modulate(self.txt.norm2(text), t_shift2, t_scale2))
        return image, text


class _SingleBlock(nn.Module):
    """One stream; attention and MLP side by side, with one projection in and one out."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.width, self.heads = width, heads
        self.linear1, self.linear2 = nn.Linear(width, 7 * width), nn.Linear(5 * width, width)
        self.query_norm, self.key_norm = (nn.RMSNorm(width // heads, eps=1e-6) for _ in range(2))
        self.pre_norm, self.mod = plain_norm(width), modulation(width, 3)

    def forward(self, x: Tensor, cond: Tensor, turns: Tensor) -> Tensor:
        shift, scale, gate = self.mod(cond).chunk(3, dim=1)
        projected, inner = self.linear1(modulate(self.pre_norm(x), shift, scale)).split(
            [3 * self.width, 4 * self.width], dim=-1
        )
        query, key, value = split_heads(projected, 3, self.heads)
        mixed = _mix(self.query_norm(query), self.key_norm(key), value, turns)
        both = torch.cat([mixed, F.gelu(inner, approximate="tanh")], dim=-1)
        out: Tensor = x + gate[:, None] * self.linear2(both)
        return out


class PlainFlux(nn.Module):
    """The published FLUX.1-dev (github.com/black-forest-labs/flux): blocks of two streams, then of one."""

    def __init__(self, shape: FluxShape) -> None:
        super().__init__()
        width, heads = shape.width, shape.heads
        self.img_in, self.txt_in = nn.Linear(shape.channels, width), nn.Linear(shape.text_width, width)
        self.time_in, self.guidance_in = TimestepEmbedder(width), TimestepEmbedder(width)
        self.vector_in = nn.Sequential(nn.Linear(shape.pooled, width), nn.SiLU(), nn.Linear(width, width))
        self.register_buffer("turns", _turns(shape).to(self.img_in.weight.device))
        self.double_blocks = nn.ModuleList(_DualBlock(width, heads) for _ in range(shape.dual))
        self.single_blocks = nn.ModuleList(_SingleBlock(width, heads) for _ in range(shape.single))
        self.final_layer = FinalLayer(width, shape.channels)

    def embed(
        self, hidden_states: Tensor, timestep: Tensor, prompt: Tensor, pooled: Tensor, guidance: Tensor
    ) -> tuple[Tensor, Context]:
        """Image tokens [batch, tokens, width]; the text's, and the conditioning vector."""
        cond = self.time_in(timestep) + self.guidance_in(1000 * guidance.float()) + self.vector_in(pooled)
        return self.img_in(hidden_states), (self.txt_in(prompt), cond)

    def stack(self, tokens: Tensor, context: Context) -> Tensor:
        """All blocks; the text's tokens end with them."""
        text, cond = context
        for block in self.double_blocks:
            tokens, text = block(tokens, text, cond, self.turns)
        both = torch.cat([text, tokens], dim=1)
        for block in self.single_blocks:
            both = block(both, cond, self.turns)
        return both[:, text.shape[1] :]

    def finish(self, tokens: Tensor, context: Context) -> Tensor:
        """From tokens to packed latents."""
        found: Tensor = self.final_layer(tokens, context[-1])
        return found

    def forward(
        self, hidden_states: Tensor, timestep: Tensor, prompt: Tensor, pooled: Tensor, guidance: Tensor
    ) -> Tensor:
        """Packed latents [b, n, c], timesteps [b] from 0 to 999, text -> what is predicted of the latents."""
        tokens, context = self.embed(hidden_states, timestep, prompt, pooled, guidance)
        return self.finish(self.stack(tokens, context), context)


def _turns(shape: FluxShape) -> Tensor:
    """Rotary cosines and sines, float32 [2, text + image tokens, size / 2]; text stands at the origin."""
    rows, columns = (
        index.flatten() for index in torch.meshgrid(*2 * [torch.arange(shape.side, device="cpu")], indexing="ij")
    )
    places = torch.zeros(shape.text + shape.side**2, 3, dtype=torch.float64, device="cpu")
    places[shape.text :, 1], places[shape.text :, 2] = rows, columns
    angles = []
    for axis, channels in enumerate(shape.axes):
        rates = 1 / 10000 ** (torch.arange(0, channels, 2, dtype=torch.float64, device="cpu") / channels)
        angles.append(places[:, axis, None] * rates)
    turned = torch.cat(angles, dim=1)
    return torch.stack([turned.cos(), turned.sin()]).float()
