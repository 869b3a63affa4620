"""STDiT3's embeddings: patches, positions, timesteps and sizes, captions, and the rotation of temporal attention."""

from __future__ import annotations

import torch
from diffusers.models.embeddings import get_timestep_embedding
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["CaptionEmbedder", "PatchEmbed3D", "PositionEmbedding2D", "RotaryEmbedding", "ScalarEmbedder"]


class PatchEmbed3D(nn.Module):
    """Cuts a video into patches and projects each to a token; a video that does not divide is padded with zeros."""

    def __init__(self, patch_size: tuple[int, int, int], in_channels: int, dim: int) -> None:
        super().__init__()
        self.patch_size = patch_size
        self.proj = nn.Conv3d(in_channels, dim, kernel_size=patch_size, stride=patch_size)

    def forward(self, video: Tensor) -> Tensor:
        """Map [B, C, frames, height, width] to [B, T, H, W, dim]."""
        frames, height, width = (-size % patch for size, patch in zip(video.shape[2:], self.patch_size, strict=True))
        padded: Tensor = self.proj(functional.pad(video, (0, width, 0, height, 0, frames)))
        return padded.movedim(1, -1)


class PositionEmbedding2D(nn.Module):
    """Sines and cosines of a token's column, then of its row, in units that do not depend on the resolution."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        half = dim // 2
        self.inv_freq: Tensor
        self.register_buffer("inv_freq", 10000.0 ** (-torch.arange(0, half, 2).float() / half), persistent=False)

    def forward(self, rows: int, columns: int, scale: Tensor) -> Tensor:
        """Return [rows, columns, dim], float32.

        Args:
            scale: a scalar; the square root of the video's area over the side of the square trained on.
        """
        side = round((rows * columns) ** 0.5)
        along_rows = self._waves(rows, side, scale)[:, None].expand(-1, columns, -1)
        along_columns = self._waves(columns, side, scale)[None].expand(rows, -1, -1)
        return torch.cat([along_columns, along_rows], dim=-1)

    def _waves(self, count: int, side: int, scale: Tensor) -> Tensor:
        places = torch.arange(count, device=self.inv_freq.device) / scale * (side / count)
        angles = places[:, None] * self.inv_freq.float()
        return torch.cat([angles.sin(), angles.cos()], dim=-1)


class ScalarEmbedder(nn.Module):
    """Embeds one number for each sample, a timestep or the frames in a second: 256 waves and two linear layers."""

    WAVES = 256

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.mlp = nn.Sequential(nn.Linear(self.WAVES, dim), nn.SiLU(), nn.Linear(dim, dim))

    def forward(self, values: Tensor, dtype: torch.dtype) -> Tensor:
        """Map [B] to [B, dim]."""
        waves = get_timestep_embedding(values, self.WAVES, flip_sin_to_cos=True, downscale_freq_shift=0)
        embedded: Tensor = self.mlp(waves.to(dtype))
        return embedded


class CaptionEmbedder(nn.Module):
    """Projects the text encoder's tokens; holds the embedding that stands for no text."""

    def __init__(self, in_channels: int, dim: int, length: int) -> None:
        super().__init__()
        self.y_proj = nn.ModuleDict({"fc1": nn.Linear(in_channels, dim), "fc2": nn.Linear(dim, dim)})
        self.y_embedding: Tensor
        self.register_buffer("y_embedding", torch.randn(length, in_channels) / in_channels**0.5)

    def forward(self, text: Tensor) -> Tensor:
        """Map [B, length, in_channels] to [B, length, dim]."""
        hidden = functional.gelu(self.y_proj["fc1"](text), approximate="tanh")
        projected: Tensor = self.y_proj["fc2"](hidden)
        return projected


class RotaryEmbedding(nn.Module):
    """Rotary positions (RoFormer, arXiv 2104.09864, eq. 34): neighbouring channels turn as pairs."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.freqs = nn.Parameter(10000.0 ** (-torch.arange(0, dim, 2).float() / dim), requires_grad=False)

    def forward(self, states: Tensor) -> Tensor:
        """Turn [B, heads, T, dim] by each token's place in T."""
        places = torch.arange(states.shape[-2], device=states.device, dtype=torch.float32)
        angles = places[:, None] * self.freqs.float()
        cos, sin = angles.cos(), angles.sin()
        even, odd = states.float().unflatten(-1, (-1, 2)).unbind(-1)
        turned = torch.stack([even * cos - odd * sin, odd * cos + even * sin], dim=-1)
        return turned.flatten(-2).to(states.dtype)
