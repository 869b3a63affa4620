"""What the pictures of both data sets are drawn with: object coordinates, soft edges, shading, colours, backgrounds.

Every function broadcasts over leading dimensions, so that frames of a video are drawn as images are.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Frame:
    """Object coordinates: each field is [..., s, s]; the object fills about the unit disc."""

    x: Tensor
    y: Tensor
    radius: Tensor
    angle: Tensor

    @classmethod
    def of(cls, side: int, left: Tensor, top: Tensor, scale: Tensor, turn: Tensor) -> Frame:
        """Place an object in a picture that reaches from -1 to 1.

        Args:
            side: pixels of an edge. left, top: its centre. scale: its radius. turn: its rotation, radians. Each of
                [..., 1, 1].
        """
        axis = (torch.arange(side) + 0.5) / side * 2 - 1
        x, y = (axis[None, :] - left) / scale, (axis[:, None] - top) / scale
        x, y = x * turn.cos() + y * turn.sin(), y * turn.cos() - x * turn.sin()
        x, y = torch.broadcast_tensors(x, y)
        return cls(x, y, (x * x + y * y).sqrt(), torch.atan2(y, x))

    def rows(self, index: Tensor) -> Frame:
        """The objects at `index` alone."""
        return Frame(self.x[index], self.y[index], self.radius[index], self.angle[index])


def uniform(n: int, low: float, high: float, generator: torch.Generator) -> Tensor:
    """Draw a number for each of n pictures, [n, 1, 1]."""
    return torch.rand(n, 1, 1, generator=generator) * (high - low) + low


def edge(distance: Tensor, sharpness: float = 14.0) -> Tensor:
    """Coverage in [0, 1] of the region where `distance` is negative, with a soft edge."""
    return torch.sigmoid(-sharpness * distance)


def wave(phase: Tensor) -> Tensor:
    """A sine whose period is 1."""
    return torch.sin(2 * math.pi * phase)


def colour(hue: Tensor, saturation: Tensor, value: Tensor) -> Tensor:
    """HSV to RGB, broadcasting; the channel axis is inserted at dimension 1."""
    shifts = torch.tensor([5.0, 3.0, 1.0]).view(1, 3, *[1] * (value.ndim - 1))
    k = (shifts + hue[:, None] * 6) % 6
    return value[:, None] * (1 - saturation[:, None] * torch.minimum(k, 4 - k).clamp(0, 1))


def background(n: int, side: int, generator: torch.Generator, grain: float = 0.05) -> Tensor:
    """A linear gradient between two muted colours plus 1/f texture of deviation `grain`, [n, 3, s, s]."""
    axis = (torch.arange(side) + 0.5) / side - 0.5
    tilt = uniform(n, 0, 2 * math.pi, generator)
    ramp = (axis[None, None, :] * tilt.cos() + axis[None, :, None] * tilt.sin() + 0.5).clamp(0, 1)[:, None]
    hue = uniform(n, 0, 1, generator)
    ends = [
        colour((hue + shift) % 1, uniform(n, 0.1, 0.45, generator), uniform(n, 0.15, 0.5, generator))
        for shift in (0.0, 0.12)
    ]
    frequency = (torch.fft.fftfreq(side)[:, None] ** 2 + torch.fft.rfftfreq(side)[None, :] ** 2).sqrt()
    noise: Tensor = torch.fft.irfft2(
        torch.fft.rfft2(torch.randn(n, 1, side, side, generator=generator)) / frequency.clamp_min(1 / side)
    )
    return ends[0] * (1 - ramp) + ends[1] * ramp + grain * noise / noise.std(dim=(-1, -2), keepdim=True)
