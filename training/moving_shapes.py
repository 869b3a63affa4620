"""A procedurally generated video data set: three textured shapes that move in three ways, nine classes.

A video is 8 frames of 24 x 24 RGB pixels in [-1, 1]. An object drifts, spins, or pulses in front of a still soft
background, and its texture (stripes, checks, shaded spokes) moves, turns and grows with it: what changes in time is
what a spatial pattern does, not noise of its own.

The generator is a pure function of a `torch.Generator`, as `shapes` is.
"""

from __future__ import annotations

import math

import torch
from drawing import Frame, background, colour, edge, uniform, wave
from torch import Tensor

FRAMES, SIZE = 8, 24
"""Frames of a video; height and width of a frame, pixels."""

SHAPES = ("striped square", "checkered disc", "star")
MOTIONS = ("drifting", "spinning", "pulsing")
CLASSES = tuple(f"{motion} {shape}" for shape in SHAPES for motion in MOTIONS)
"""Class c has shape c // 3 and motion c % 3."""

_BASE_HUE = (0.58, 0.02, 0.14)


def _place(labels: Tensor, times: Tensor, generator: torch.Generator) -> tuple[Frame, Tensor]:
    """Draw where each object is at each time; return also its length in pixels before it pulses, [n, 1, 1, 1]."""
    n, motion = len(labels), (labels % len(MOTIONS)).view(-1, 1, 1)
    passed = times[:, :, None] - (FRAMES - 1) / 2  # [n, f, 1], 0 in the middle of the video
    scale, turn = uniform(n, 0.5, 0.6, generator), uniform(n, -math.pi, math.pi, generator)
    left, top = uniform(n, -0.15, 0.15, generator), uniform(n, -0.15, 0.15, generator)
    heading, speed = uniform(n, -math.pi, math.pi, generator), uniform(n, 0.09, 0.13, generator)
    spin = uniform(n, 0.2, 0.35, generator) * (uniform(n, -1, 1, generator) < 0).float().mul(2).sub(1)
    beat, phase = uniform(n, 6, 9, generator), uniform(n, 0, 1, generator)
    drifts, spins, pulses = (motion == 0).float(), (motion == 1).float(), (motion == 2).float()
    path = drifts * speed * passed
    grown = scale * (1 + 0.3 * pulses * wave(passed / beat + phase))
    frame = Frame.of(
        SIZE,
        (left + path * heading.cos())[..., None],
        (top + path * heading.sin())[..., None],
        grown[..., None],
        (turn + spins * spin * passed)[..., None],
    )
    return frame, scale[..., None] * (SIZE / 2)


def _draw(shape: int, f: Frame, pixels: Tensor, period: Tensor) -> tuple[Tensor, Tensor]:
    """Return coverage and brightness of one shape, [n, frames, s, s] each."""
    if shape == 0:
        return edge(torch.maximum(f.x.abs(), f.y.abs()) - 0.85), 0.68 + 0.32 * wave(f.x * pixels / period)
    if shape == 1:
        checks = wave(f.x * pixels / (1.4 * period)) * wave(f.y * pixels / (1.4 * period))
        return edge(f.radius - 0.95), 0.62 + 0.34 * torch.tanh(3 * checks)
    spoke = 0.7 + 0.34 * torch.cos(5 * f.angle)
    return edge((f.radius - spoke) * 0.8), 1.05 - 0.65 * f.radius


def draw(labels: Tensor, generator: torch.Generator, frames: int = FRAMES) -> Tensor:
    """Draw one video for each label.

    Args:
        labels: int64 [n], each in 0..8.
        generator: the source of every random choice.
        frames: how many successive frames of each video are drawn, beginning at a random one.

    Returns:
        float32 [n, 3, frames, 24, 24] in [-1, 1].
    """
    n = len(labels)
    begin = torch.randint(0, FRAMES - frames + 1, (n, 1), generator=generator)
    frame, pixels = _place(labels, (begin + torch.arange(frames)).float(), generator)
    video = background(n, SIZE, generator)[:, :, None].repeat(1, 1, frames, 1, 1)
    period = uniform(n, 3.6, 4.4, generator)[..., None]
    kinds = labels // len(MOTIONS)
    hue = (torch.tensor(_BASE_HUE)[kinds].view(n, 1, 1) + uniform(n, -0.1, 0.1, generator))[..., None] % 1
    saturation = uniform(n, 0.45, 0.85, generator)[..., None]
    for kind in kinds.unique().tolist():
        rows = (kinds == kind).nonzero().flatten()
        coverage, light = _draw(kind, frame.rows(rows), pixels[rows], period[rows])
        paint = colour(hue[rows], saturation[rows] * (1.25 - 0.5 * light.clamp(0, 1)), light.clamp(0.02, 1))
        video[rows] = video[rows].lerp(paint, coverage[:, None])
    return video.clamp(0, 1) * 2 - 1
