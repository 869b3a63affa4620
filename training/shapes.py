"""A procedurally generated image data set: ten classes of shaded, textured objects on soft backgrounds.

Every image has smooth structure (a lit object, a colour gradient behind it) and fine texture (stripes, checks, rings,
grain of two to four pixels), so that a diffusion transformer trained on it carries both low and high spatial
frequencies. Images are 32 x 32 RGB in [-1, 1], drawn at twice that size and averaged down.

The generator is a pure function of a `torch.Generator`: the same seed gives the same images on every machine with the
same torch release.
"""

from __future__ import annotations

import math

import torch
from drawing import Frame, background, colour, edge, uniform, wave
from torch import Tensor

SIZE = 32
"""Height and width of an image, pixels."""

CLASSES = (
    "sphere",
    "striped square",
    "ring",
    "star",
    "checkered diamond",
    "plus",
    "crescent",
    "ringed hexagon",
    "flower",
    "spiral",
)

_SUPERSAMPLING = 2
_BASE_HUE = (0.02, 0.58, 0.12, 0.15, 0.78, 0.40, 0.52, 0.30, 0.92, 0.66)


def _frame(n: int, generator: torch.Generator) -> tuple[Frame, Tensor]:
    """Draw a position, size and rotation for each image; also return pixels for each unit of object length."""
    scale = uniform(n, 0.58, 0.78, generator)
    left, top = uniform(n, -0.18, 0.18, generator), uniform(n, -0.18, 0.18, generator)
    turn = uniform(n, -0.35, 0.35, generator)
    return Frame.of(SIZE * _SUPERSAMPLING, left, top, scale, turn), scale * (SIZE / 2)


def _dome(radius: Tensor) -> Tensor:
    """Height of a unit half sphere, the smooth shading of most classes."""
    return (1 - radius.clamp(max=1) ** 2).clamp_min(0).sqrt()


def _light(frame: Frame) -> Tensor:
    """Diffuse light from the upper left plus a soft highlight."""
    diffuse = 0.55 + 0.45 * _dome(frame.radius) - 0.22 * (frame.x + frame.y)
    highlight = torch.exp(-((frame.x + 0.4) ** 2 + (frame.y + 0.4) ** 2) / 0.06)
    return diffuse + 0.5 * highlight


def _draw(label: int, f: Frame, pixels: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Return coverage and brightness, [n, s, s] each, of class `label`.

    `pixels` is the object's unit length in image pixels, [n, 1, 1]: textures have a period in pixels, not in objects.
    """
    n = f.x.shape[0]
    flat = 0.75 - 0.15 * (f.x + f.y)
    box = torch.maximum(f.x.abs(), f.y.abs())
    if label == 0:
        return edge(f.radius - 0.95), _light(f)
    if label == 1:
        period = uniform(n, 3.5, 4.5, generator)
        return edge(box - 0.78), flat + 0.38 * wave(f.x * pixels / period)
    if label == 2:
        tube = (f.radius - 0.68) / 0.26
        return edge(tube.abs() * 0.26 - 0.26), 0.35 + 0.6 * _dome(tube.abs()) - 0.2 * (f.x + f.y)
    if label == 3:
        spoke = 0.68 + 0.32 * torch.cos(5 * (f.angle + math.pi / 2))
        return edge((f.radius - spoke) * 0.8), 1.05 - 0.55 * f.radius
    if label == 4:
        period = uniform(n, 5.0, 6.0, generator)
        checks = wave(f.x * pixels / period) * wave(f.y * pixels / period)
        return edge(f.x.abs() + f.y.abs() - 1.0), flat + 0.42 * torch.tanh(3 * checks)
    if label == 5:
        narrow = torch.minimum(f.x.abs(), f.y.abs())
        return edge(torch.maximum(narrow - 0.27, box - 0.92)), 0.95 - 1.3 * narrow - 0.15 * (f.x + f.y)
    if label == 6:
        bite = ((f.x - 0.42) ** 2 + f.y**2).sqrt()
        period = uniform(n, 3.0, 3.8, generator)
        inside = edge(f.radius - 0.95) * (1 - edge(bite - 0.72))
        return inside, 0.78 + 0.34 * wave((f.x + f.y) * pixels / (math.sqrt(2) * period))
    if label == 7:
        corner = torch.maximum(f.x.abs() * math.cos(math.pi / 6) + f.y.abs() * 0.5, f.y.abs())
        period = uniform(n, 3.6, 4.4, generator)
        return edge(corner - 0.82), 0.72 + 0.38 * wave(f.radius * pixels / period)
    if label == 8:
        petal = 0.72 + 0.24 * torch.cos(6 * f.angle)
        core = torch.exp(-(f.radius**2) / 0.05)
        return edge((f.radius - petal) * 0.8), 0.55 + 0.35 * f.radius + 0.5 * core
    arm = wave(f.angle / math.pi + 1.1 * torch.log(f.radius + 0.12))
    return edge(f.radius - 0.95, 7.0) * (0.25 + 0.75 * torch.sigmoid(5 * arm)), 1.1 - 0.5 * f.radius


def draw(labels: Tensor, generator: torch.Generator) -> Tensor:
    """Draw one image for each label.

    Args:
        labels: int64 [n], each in 0..9.
        generator: the source of every random choice.

    Returns:
        float32 [n, 3, 32, 32] in [-1, 1].
    """
    n = labels.shape[0]
    image = background(n, SIZE * _SUPERSAMPLING, generator)
    frame, pixels = _frame(n, generator)
    hue = (torch.tensor(_BASE_HUE)[labels].view(n, 1, 1) + uniform(n, -0.12, 0.12, generator)) % 1
    saturation = uniform(n, 0.45, 0.85, generator)
    for label in labels.unique().tolist():
        rows = (labels == label).nonzero().flatten()
        coverage, brightness = _draw(label, frame.rows(rows), pixels[rows], generator)
        paint = colour(hue[rows], saturation[rows] * (1.25 - 0.5 * brightness.clamp(0, 1)), brightness.clamp(0.02, 1))
        image[rows] = image[rows] * (1 - coverage[:, None]) + paint * coverage[:, None]
    small = torch.nn.functional.avg_pool2d(image, _SUPERSAMPLING)
    return small.clamp(0, 1) * 2 - 1
