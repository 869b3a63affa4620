"""Spatial frequencies of what lies on the token grid; written to be traced."""

from __future__ import annotations

import torch
from torch import Tensor

from ...spectral import grid_bases, low_pass_mask, transform
from .base import Grid


def to_coefficients(field: Tensor, grid: Grid) -> Tensor:
    """Return the DCT coefficients of tokens on a grid, [B, T * H * W, channels], float32, of the same shape."""
    return transform(field, _matrices(field, grid))


def from_coefficients(coefficients: Tensor, grid: Grid) -> Tensor:
    """Return the tokens that have these coefficients."""
    return transform(coefficients, [matrix.mT for matrix in _matrices(coefficients, grid)])


def low_band(like: Tensor, grid: Grid, edge: float) -> Tensor:
    """Return 1 for each coefficient with a radius of at most `edge`, else 0: [T * H * W, 1], float32."""
    mask = low_pass_mask(grid[:3], edge)
    return mask.flatten()[:, None].to(like.device, torch.float32)


def _matrices(like: Tensor, grid: Grid) -> list[Tensor]:
    return [matrix.to(like.device, torch.float32) for matrix in grid_bases(grid[:3])]
