"""Samples and their latents by frequency: how much is signal at a step, and which steps follow from it."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from .finding import Table
from .ingredients import write_whole
from .lab import Lab

_SHOWN = (0, 10, 20, 30, 40, 48)


@dataclass(frozen=True)
class LatentSpectra:
    """Power by radial frequency of samples, and of the latents that they were denoised from.

    Attributes:
        frequencies: mean of each band, in cycles a pixel (and frame). power: of the samples, S.
        latents: power after each step. levels: signal a and noise b of the latents that enter each step.
    """

    frequencies: list[float]
    power: list[float]
    latents: list[list[float]]
    levels: list[tuple[float, float]]

    @property
    def exponent(self) -> float:
        """The samples' power falls as frequency to minus this."""
        return fit_exponent(self.frequencies, self.power)

    @cached_property
    def shares(self) -> list[list[float]]:
        """At each step, the share of signal in each band of the latents: `a^2 S / (a^2 S + b^2)`.

        The Wiener filter's response (SeaCache, arXiv 2602.18993), with the measured power S.
        """
        return [[a * a * s / (a * a * s + b * b) for s in self.power] for a, b in self.levels]

    def over_model(self, step: int) -> list[float]:
        """Measured power of the latents after a step, but the last, over `a^2 S + b^2`."""
        a, b = self.levels[step + 1]
        return [found / (a * a * s + b * b) for found, s in zip(self.latents[step], self.power, strict=True)]

    @property
    def largest_error(self) -> float:
        """How far the model `a^2 S + b^2` is off in any band after any step shown: |measured over model - 1|."""
        return max(abs(over - 1) for step in self.shown for over in self.over_model(step))

    @property
    def shown(self) -> list[int]:
        """The steps that tables and plots show."""
        return [step for step in _SHOWN if step + 1 < len(self.levels)]

    def steps_by_signal(self, computed: int, *, by_power: bool = False) -> tuple[int, ...]:
        """`computed` steps, the first and the last among them, between which equal amounts of signal come up.

        An amount is the share of signal, mean over the bands: all alike, or each by its power in the samples.
        """
        steps, weights = len(self.levels), self.power if by_power else [1.0] * len(self.power)
        resolved = [sum(w * s for w, s in zip(weights, row, strict=True)) / sum(weights) for row in self.shares]
        first, last = resolved[0], resolved[-1]
        found = [0]
        for k in range(1, computed):
            wanted = first + (last - first) * k / (computed - 1)
            near = min(range(steps), key=lambda step: abs(resolved[step] - wanted))
            found.append(min(max(near, found[-1] + 1), steps - computed + k))
        return tuple(found)

    def table(self, caption: str) -> Table:
        """A few bands: their power, and the share of signal in them at the steps shown."""
        headings = tuple(f"step {step}" for step in self.shown)
        rows = tuple(
            (self.frequencies[k], self.power[k], *(self.shares[step][k] for step in self.shown)) for k in self._picks
        )
        formats = {"frequency": ".3f", "power": ".3f"} | dict.fromkeys(headings, ".2f")
        return Table(caption, ("frequency", "power", *headings), rows, formats)

    def table_over_model(self, caption: str) -> Table:
        """A few bands: measured power of the latents over the model's, after the steps shown."""
        headings = tuple(f"after step {step}" for step in self.shown)
        over = [self.over_model(step) for step in self.shown]
        rows = tuple((self.frequencies[k], *(row[k] for row in over)) for k in self._picks)
        return Table(caption, ("frequency", *headings), rows, {"frequency": ".3f"} | dict.fromkeys(headings, ".2f"))

    @property
    def _picks(self) -> range:
        return range(0, len(self.power), max(1, len(self.power) // 6))


def measure_spectra(lab: Lab) -> LatentSpectra:
    """Spectra of a model's uncached calibration samples, and of the latents on the way to them."""
    images = lab.subject.calibration
    path = lab.folder / f"latents {lab.steps}.json"
    if not path.is_file():
        lab.begin("  spectra of the latents")
        found: list[list[float]] = []
        ((labels, noise),) = images.batches(lab.subject.shape)
        lab.subject.sample(
            *(lab.model, labels, noise, lab.steps, images.guidance),
            lambda _, latents: found.append(radial_spectrum(latents)[1]),
        )
        write_whole(path, json.dumps(found))
    latents: list[list[float]] = json.loads(path.read_text())
    return LatentSpectra(*radial_spectrum(lab.uncached(images)), latents, lab.subject.levels(lab.steps))


def radial_spectrum(samples: Tensor) -> tuple[list[float], list[float]]:
    """Mean power in bands of radial frequency; white noise of variance 1 has 1.

    Args:
        samples: [n, channels, *sides]: of images two sides, of videos three, of which the first counts frames.

    Returns:
        Mean frequency of each band, in cycles a pixel (and frame), and its power. The bands are as wide as the longest
        side resolves and go up to half a cycle; the constant part is left out.
    """
    sides = samples.shape[2:]
    power = torch.fft.fftn(samples.double(), dim=tuple(range(2, samples.ndim)), norm="ortho").abs().square()
    power = power.mean((0, 1))
    axes = torch.meshgrid(*(torch.fft.fftfreq(side, dtype=torch.float64) for side in sides), indexing="ij")
    radius, size = torch.stack(axes).norm(dim=0), max(sides)
    bands = [(radius >= (k - 0.5) / size) & (radius < (k + 0.5) / size) for k in range(1, size // 2 + 1)]
    return [float(radius[band].mean()) for band in bands], [float(power[band].mean()) for band in bands]


def fit_exponent(frequencies: list[float], power: list[float]) -> float:
    """Least squares of `log power = c - beta log frequency`; returns beta."""
    x = torch.tensor([math.log(f) for f in frequencies], dtype=torch.float64)
    y = torch.tensor([math.log(p) for p in power], dtype=torch.float64)
    return -float(((x - x.mean()) * (y - y.mean())).sum() / (x - x.mean()).square().sum())
