"""What the benchmarks share: the model, its denoising loop, times that are compared within one run."""

from __future__ import annotations

import argparse
import copy
import os
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, TypeAlias

import torch
from arguments import Arguments
from torch import Tensor

from fouriercache.optimize import CACHE_DIR

BATCH = 2
CLASSES = 10

Model: TypeAlias = Any
"""A DiTTransformer2DModel; diffusers leaves untyped what its modules have."""
Denoiser: TypeAlias = Callable[..., Any]
"""What is called with the keyword arguments of `Inputs.call` and returns something with a `sample`."""


@dataclass(frozen=True)
class Shape:
    """The size of a DiT on 4-channel latents with patches of 2 x 2."""

    layers: int
    heads: int
    head_size: int
    latent: int

    @property
    def name(self) -> str:
        """In words: `DiT 12 x 384, 256 tokens`."""
        return f"DiT {self.layers} x {self.heads * self.head_size}, {(self.latent // 2) ** 2} tokens"


FULL = Shape(layers=12, heads=6, head_size=64, latent=32)
QUICK = Shape(layers=2, heads=2, head_size=16, latent=8)
"""For the tests: everything runs, no time means anything."""


def build_model(shape: Shape, seed: int = 0) -> Model:
    """Return a DiT with random float32 weights.

    Its modulation layers are drawn like all others, so every gate is open; a DiT as initialised for training has
    closed gates, and an error in a cached branch would not show.
    """
    from diffusers import DiTTransformer2DModel  # here, for gpu.py runs where there is no diffusers

    torch.manual_seed(seed)
    model: Model = DiTTransformer2DModel(
        num_attention_heads=shape.heads,
        attention_head_dim=shape.head_size,
        in_channels=4,
        num_layers=shape.layers,
        sample_size=shape.latent,
        patch_size=2,
        num_embeds_ada_norm=CLASSES,
    )
    return model.eval()


def unpatchify(model: Model, stream: Tensor) -> Tensor:
    """Return an image [b, c, h, w] of a DiT's tokens [b, n, p * p * c], as the model's own forward does."""
    side, patch, channels = int(stream.shape[1] ** 0.5), model.patch_size, model.out_channels
    stream = torch.einsum("nhwpqc->nchpwq", stream.reshape(-1, side, side, patch, patch, channels))
    return stream.reshape(-1, channels, side * patch, side * patch)


def share_weights(model: Model) -> Model:
    """Return a copy of the module with the very same weights, so that hooks on one do not meet those on another."""
    return copy.deepcopy(model, {id(tensor): tensor for tensor in [*model.parameters(), *model.buffers()]})


@dataclass(frozen=True)
class Inputs:
    """What a loop begins with: noise float32 [b, 4, h, w], labels int64 [b] (a class and the null class), timesteps.

    `listed` is the scheduler's list, int64 [steps]. As in most pipelines, each call is given a view of it, from which
    the steps to come can be known; without `is_shown`, as in some, a tensor of its own.
    """

    noise: Tensor
    labels: Tensor
    listed: Tensor
    is_shown: bool = True

    @classmethod
    def draw(cls, shape: Shape, steps: int, seed: int = 1) -> Inputs:
        """Noise of one seed, and `steps` timesteps down from just below 1000."""
        generator = torch.Generator().manual_seed(seed)
        noise = torch.randn(BATCH, 4, shape.latent, shape.latent, generator=generator)
        listed = torch.tensor([1000 * (steps - 1 - step) // steps for step in range(steps)])
        return cls(noise, torch.tensor([1, CLASSES]), listed)

    @property
    def timesteps(self) -> tuple[int, ...]:
        """The list's numbers."""
        return tuple(self.listed.tolist())

    def call(self, latents: Tensor, step: int) -> dict[str, Tensor]:
        """Keyword arguments of the model at a step."""
        timestep = self.listed[step].expand(self.labels.shape)
        given = timestep if self.is_shown else timestep.clone()
        return {"hidden_states": latents, "timestep": given, "class_labels": self.labels}


class Loop:
    """An Euler loop, x <- x - v / steps, that can stop between any two steps.

    Attributes:
        latents: [2, 4, h, w] after the steps done so far.
        seconds: wall time of each step done so far; what `begin` takes is a part of the first.
        cpu_seconds: of all cores together, in the same steps.
    """

    def __init__(self, model: Denoiser, inputs: Inputs, begin: Callable[[], None]) -> None:
        self._model, self._inputs, self._begin = model, inputs, begin
        self.latents = inputs.noise
        self.seconds: list[float] = []
        self.cpu_seconds: list[float] = []

    @property
    def is_done(self) -> bool:
        """Whether all steps have been done."""
        return len(self.seconds) == len(self._inputs.timesteps)

    @torch.no_grad()
    def advance(self, count: int) -> None:
        """Do up to `count` more steps."""
        steps = len(self._inputs.timesteps)
        for step in range(len(self.seconds), min(len(self.seconds) + count, steps)):
            started, cpu = time.perf_counter(), time.process_time()
            if step == 0:
                self._begin()
            self.latents = self.latents - self._model(**self._inputs.call(self.latents, step)).sample / steps
            self.seconds.append(time.perf_counter() - started)
            self.cpu_seconds.append(time.process_time() - cpu)


def take_turns(loops: Sequence[Loop], turn: int) -> None:
    """Run all loops to their end, `turn` steps at a time, so that what else the machine does falls on all alike.

    Who begins a round moves on by one, so that no loop always follows the same other one.
    """
    first = 0
    while not all(loop.is_done for loop in loops):
        for offset in range(len(loops)):
            loops[(first + offset) % len(loops)].advance(turn)
        first += 1


@dataclass(frozen=True)
class Spread:
    """Median and quartiles of repeated measurements."""

    median: float
    low: float
    high: float
    count: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """The spread of at least one value."""
        if len(values) == 1:
            return cls(values[0], values[0], values[0], 1)
        low, median, high = statistics.quantiles(values, n=4, method="inclusive")
        return cls(median, low, high, len(values))

    def times(self, factor: float) -> Spread:
        """The same in another unit."""
        return Spread(self.median * factor, self.low * factor, self.high * factor, self.count)

    def as_dict(self) -> dict[str, float]:
        """For JSON."""
        return asdict(self)


def relative_error(value: Tensor, reference: Tensor) -> float:
    """Return ||value - reference|| / ||reference||, both norms L2 over all elements, in float64."""
    return float((value.double() - reference.double()).norm() / reference.double().norm())


def argument_parser(description: str | None, **given: Any) -> Arguments:
    """Return a parser of what every benchmark takes; see `Arguments`.

    From here on no captures come from a folder that the shell names, also in processes that the benchmark starts: what
    is measured must not depend on that.
    """
    os.environ.pop(CACHE_DIR, None)
    return Arguments(description, **given)


def read_arguments(description: str | None) -> argparse.Namespace:
    """Read what every benchmark takes."""
    return argument_parser(description).parse_args()
