"""STDiT3's blocks: attention within frames or along time, attention to the text, an MLP; and the last layer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["Block", "Condition", "FinalLayer"]

_EPS = 1e-6


class Condition:
    """What modulates the tokens: the timestep's embedding, and timestep 0's for the tokens of frames that are known.

    Args:
        now, known: [B, n]; `known` is None where every frame is denoised.
        is_denoised: [B, T], which frames are.
    """

    def __init__(self, now: Tensor, known: Tensor | None, is_denoised: Tensor | None) -> None:
        self._now, self._known = now, known
        self._mask = None if is_denoised is None else is_denoised[:, :, None, None]

    def rows(self, table: Tensor) -> list[_Modulation]:
        """Return table + embedding, row by row of `table` [rows, dim]."""
        now = _sums(table, self._now)
        if self._known is None or self._mask is None:
            return [_Modulation(row, None) for row in now]
        known = _sums(table, self._known)
        return [
            _Modulation(torch.where(self._mask, one[:, None], other[:, None]), self._mask.shape[1])
            for one, other in zip(now, known, strict=True)
        ]

    def now(self, table: Tensor) -> list[_Modulation]:
        """The same with every frame taken for one that is denoised."""
        return [_Modulation(row, None) for row in _sums(table, self._now)]

    def known(self, table: Tensor) -> list[_Modulation] | None:
        """The same with every frame taken for a known one; None if there is none."""
        return None if self._known is None else [_Modulation(row, None) for row in _sums(table, self._known)]

    def choose(self, now: Tensor, known: Tensor) -> Tensor:
        """Take `now` for the tokens [B, T * S, dim] of frames that are denoised, `known` for the others."""
        assert self._mask is not None
        frames = self._mask.shape[1]
        pair = now.unflatten(1, (frames, -1)), known.unflatten(1, (frames, -1))
        return _joined(torch.where(self._mask, pair[0], pair[1]))


@dataclass(frozen=True)
class _Modulation:
    """A factor or summand for tokens [B, T * S, dim]: `value` [B, 1, dim], or [B, T, 1, dim] with `frames`, T."""

    value: Tensor
    frames: int | None

    def times(self, tokens: Tensor) -> Tensor:
        """Multiply the tokens."""
        if self.frames is None:
            return self.value * tokens
        return _joined(self.value * tokens.unflatten(1, (self.frames, -1)))


def _modulate(tokens: Tensor, shift: _Modulation, scale: _Modulation) -> Tensor:
    """Return tokens * (1 + scale) + shift (Scalable Diffusion Models with Transformers, 2212.09748, adaLN)."""
    if scale.frames is None:
        return tokens * (1 + scale.value) + shift.value
    return _joined(tokens.unflatten(1, (scale.frames, -1)) * (1 + scale.value) + shift.value)


def _joined(grid: Tensor) -> Tensor:
    tokens: Tensor = grid.flatten(1, 2)
    return tokens


def _sums(table: Tensor, embedding: Tensor) -> tuple[Tensor, ...]:
    return (table + embedding.reshape(embedding.shape[0], -1, table.shape[1])).chunk(table.shape[0], dim=1)


class _RMSNorm(nn.Module):
    """Divides by the root mean square in float32, then scales (Root Mean Square Layer Normalization, 1910.07467)."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(dim))

    def forward(self, states: Tensor) -> Tensor:
        """Normalise [..., dim]."""
        wide = states.float()
        return self.weight * (wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + _EPS)).to(states.dtype)


class _SelfAttention(nn.Module):
    """Attention over the tokens of one sequence, with normalised queries and keys, turned by `rotate` if given."""

    def __init__(self, dim: int, heads: int, *, qk_norm: bool, rotate: Callable[[Tensor], Tensor] | None) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.q_norm = _RMSNorm(dim // heads) if qk_norm else nn.Identity()
        self.k_norm = _RMSNorm(dim // heads) if qk_norm else nn.Identity()
        self.proj = nn.Linear(dim, dim)
        self._rotate = [rotate]  # in a list: the model owns the module, not each block

    def forward(self, states: Tensor) -> Tensor:
        """Map [sequences, tokens, dim] to the same shape."""
        query, key, value = self.qkv(states).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)
        query, key = self.q_norm(query), self.k_norm(key)
        rotate = self._rotate[0]
        if rotate is not None:
            query, key = rotate(query), rotate(key)
        mixed = functional.scaled_dot_product_attention(query, key, value)
        projected: Tensor = self.proj(mixed.transpose(1, 2).flatten(2))
        return projected


class _CrossAttention(nn.Module):
    """Attention of all tokens of a video to its text."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q_linear = nn.Linear(dim, dim)
        self.kv_linear = nn.Linear(dim, 2 * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, states: Tensor, text: Tensor, mask: Tensor | None) -> Tensor:
        """Map [B, tokens, dim] to the same shape.

        Args:
            text: [B, length, dim]. mask: [B, length], True for words, False for padding, which nothing attends to.
        """
        query = self.q_linear(states).unflatten(-1, (self.heads, -1)).transpose(1, 2)
        key, value = self.kv_linear(text).unflatten(-1, (2, self.heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)
        seen = None if mask is None else mask[:, None, None]
        mixed = functional.scaled_dot_product_attention(query, key, value, attn_mask=seen)
        projected: Tensor = self.proj(mixed.transpose(1, 2).flatten(2))
        return projected


class Block(nn.Module):
    """x + gate * attention(modulated x); + attention to the text; + gate * MLP(modulated x).

    Args:
        rotate: the rotation of queries and keys; given for a temporal block, None for a spatial one.
    """

    def __init__(
        self, dim: int, heads: int, mlp_dim: int, *, qk_norm: bool, rotate: Callable[[Tensor], Tensor] | None = None
    ) -> None:
        super().__init__()
        self.is_temporal = rotate is not None
        self.norm1 = nn.LayerNorm(dim, _EPS, elementwise_affine=False)
        self.attn = _SelfAttention(dim, heads, qk_norm=qk_norm, rotate=rotate)
        self.cross_attn = _CrossAttention(dim, heads)
        self.norm2 = nn.LayerNorm(dim, _EPS, elementwise_affine=False)
        self.mlp = nn.ModuleDict({"fc1": nn.Linear(dim, mlp_dim), "fc2": nn.Linear(mlp_dim, dim)})
        self.scale_shift_table = nn.Parameter(torch.randn(6, dim) / dim**0.5)

    def forward(
        self, states: Tensor, text: Tensor, condition: Condition, text_mask: Tensor | None, frames: int
    ) -> Tensor:
        """Map [B, T * S, dim] to the same shape.

        Args:
            text, text_mask: see `_CrossAttention`. frames: T.
        """
        shift_attn, scale_attn, gate_attn, shift_mlp, scale_mlp, gate_mlp = condition.rows(self.scale_shift_table)
        grid = _modulate(self.norm1(states), shift_attn, scale_attn).unflatten(1, (frames, -1))
        batch, _, spots, _ = grid.shape
        if self.is_temporal:
            mixed = self.attn(grid.transpose(1, 2).flatten(0, 1)).unflatten(0, (batch, spots)).transpose(1, 2)
        else:
            mixed = self.attn(grid.flatten(0, 1)).unflatten(0, (batch, frames))
        states = states + gate_attn.times(mixed.flatten(1, 2))
        states = states + self.cross_attn(states, text, text_mask)
        modulated = _modulate(self.norm2(states), shift_mlp, scale_mlp)
        hidden = functional.gelu(self.mlp["fc1"](modulated), approximate="tanh")
        return states + gate_mlp.times(self.mlp["fc2"](hidden))


class FinalLayer(nn.Module):
    """Modulates, and projects each token to the values of its patch."""

    def __init__(self, dim: int, patch_values: int) -> None:
        super().__init__()
        self.norm_final = nn.LayerNorm(dim, _EPS, elementwise_affine=False)
        self.linear = nn.Linear(dim, patch_values)
        self.scale_shift_table = nn.Parameter(torch.randn(2, dim) / dim**0.5)

    def forward(self, states: Tensor, condition: Condition) -> Tensor:
        """Map [B, T * S, dim] to [B, T * S, patch_values].

        Known frames are normalised and modulated for the timestep first, then once more for timestep 0: the published
        weights were trained so.
        """
        states = _modulate(self.norm_final(states), *condition.now(self.scale_shift_table))
        known = condition.known(self.scale_shift_table)
        if known is not None:
            states = condition.choose(states, _modulate(self.norm_final(states), *known))
        values: Tensor = self.linear(states)
        return values
