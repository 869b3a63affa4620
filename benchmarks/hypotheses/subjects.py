"""What hypotheses are measured on: a shipped model, how it is sampled, and what calibration may see."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import fouriercache as fc
from fouriercache.indicators.noise import Noise
from fouriercache.models import demo, demo_video
from fouriercache.models.shipped import OnStep


@dataclass(frozen=True)
class Images:
    """Which images or videos are sampled: one for each class and seed, in batches of one seed.

    `calibration` images are what methods are fitted on; nothing is measured on them. Two classes, the last, are in no
    calibration image.
    """

    seeds: tuple[int, ...]
    classes: tuple[int, ...] = tuple(range(len(demo.CLASS_NAMES)))
    guidance: float = demo.GUIDANCE

    @property
    def count(self) -> int:
        return len(self.seeds) * len(self.classes)

    def batches(self, shape: tuple[int, ...] = demo.SHAPE) -> list[tuple[Tensor, Tensor]]:
        """Labels int64 [classes] and noise float32 [classes, *shape] for each seed."""
        labels = torch.tensor(self.classes)
        return [
            (labels, torch.randn(len(labels), *shape, generator=torch.Generator().manual_seed(seed)))
            for seed in self.seeds
        ]


HELD_OUT = Images(seeds=(7_001,))
"""What hypotheses and presets are measured on."""
MORE = Images(seeds=(7_001, 7_002))
"""What the own method is measured on; those of `HELD_OUT` come first."""
CALIBRATION = Images(seeds=(3_001,), classes=tuple(range(8)))
UNSEEN = Images(seeds=(7_001, 7_002, 7_003, 7_004), classes=(8, 9))
"""Of the two classes alone that are in no calibration image."""
VIDEOS = Images(seeds=(7_001, 7_002), classes=tuple(range(len(demo_video.CLASS_NAMES))), guidance=demo_video.GUIDANCE)
"""What is measured on videos."""
VIDEO_CALIBRATION = Images(seeds=(3_001,), classes=tuple(range(7)), guidance=demo_video.GUIDANCE)


@dataclass(frozen=True)
class Subject:
    """A shipped model and its sampler.

    Attributes:
        load_scheduler: the one that `sample` uses; its timesteps are not set. noise: what a timestep of it means.
        sample: takes module, labels, noise, steps, guidance and what is called after each step, and returns the
            samples. shape: of one sample. folder: where its manifest lies. calibration: what methods are fitted on.
    """

    load_model: Callable[[], nn.Module]
    load_scheduler: Callable[[], Any]
    noise: Callable[[], Noise]
    sample: Callable[[Any, Tensor, Tensor, int, float, OnStep | None], Tensor]
    shape: tuple[int, ...]
    folder: Path
    calibration: Images

    @property
    def files(self) -> dict[str, str]:
        """SHA-256 of each file of the model."""
        found: dict[str, str] = json.loads((self.folder / "manifest.json").read_text())["files"]
        return found

    def levels(self, steps: int) -> list[tuple[float, float]]:
        """Signal and noise in the latents that enter each of `steps` steps."""
        scheduler, noise = self.load_scheduler(), self.noise()
        scheduler.set_timesteps(steps)
        return [noise.levels(timestep) for timestep in scheduler.timesteps.tolist()]


def _noise_of_images() -> Noise:
    return fc.DDPM(demo.load_demo_scheduler().alphas_cumprod.double().tolist())


def _sample_images(
    module: Any, labels: Tensor, noise: Tensor, steps: int, guidance: float, on_step: OnStep | None = None
) -> Tensor:
    scheduler = demo.load_demo_scheduler()
    return demo.sample(module, scheduler, labels, noise, num_steps=steps, guidance=guidance, on_step=on_step)


def _sample_videos(
    module: Any, labels: Tensor, noise: Tensor, steps: int, guidance: float, on_step: OnStep | None = None
) -> Tensor:
    scheduler, embeddings = demo_video.load_video_scheduler(), demo_video.load_class_embeddings()
    settings: dict[str, Any] = {"num_steps": steps, "guidance": guidance, "on_step": on_step}
    return demo_video.sample(module, scheduler, embeddings, labels, noise, **settings)


IMAGE_MODEL = Subject(
    load_model=demo.load_demo_model,
    load_scheduler=demo.load_demo_scheduler,
    noise=_noise_of_images,
    sample=_sample_images,
    shape=demo.SHAPE,
    folder=demo.FOLDER,
    calibration=CALIBRATION,
)
VIDEO_MODEL = Subject(
    load_model=demo_video.load_video_model,
    load_scheduler=demo_video.load_video_scheduler,
    noise=lambda: fc.Flow(1000.0),  # the last of 50 timesteps is 1, which without a scale would be taken for pure noise
    sample=_sample_videos,
    shape=demo_video.SHAPE,
    folder=demo_video.FOLDER,
    calibration=VIDEO_CALIBRATION,
)
