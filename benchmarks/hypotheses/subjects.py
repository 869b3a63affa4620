"""What hypotheses are measured on: a shipped model, how it is sampled, and what calibration may see."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from fouriercache.models import demo, demo_video


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
        sample: takes module, labels, noise, steps and guidance, and returns the samples. shape: of one sample.
        folder: where its manifest lies. calibration: what methods are fitted on.
    """

    load_model: Callable[[], nn.Module]
    sample: Callable[[Any, Tensor, Tensor, int, float], Tensor]
    shape: tuple[int, ...]
    folder: Path
    calibration: Images

    @property
    def files(self) -> dict[str, str]:
        """SHA-256 of each file of the model."""
        found: dict[str, str] = json.loads((self.folder / "manifest.json").read_text())["files"]
        return found


def _sample_images(module: Any, labels: Tensor, noise: Tensor, steps: int, guidance: float) -> Tensor:
    return demo.sample(module, demo.load_demo_scheduler(), labels, noise, num_steps=steps, guidance=guidance)


def _sample_videos(module: Any, labels: Tensor, noise: Tensor, steps: int, guidance: float) -> Tensor:
    scheduler, embeddings = demo_video.load_video_scheduler(), demo_video.load_class_embeddings()
    return demo_video.sample(module, scheduler, embeddings, labels, noise, num_steps=steps, guidance=guidance)


IMAGE_MODEL = Subject(demo.load_demo_model, _sample_images, demo.SHAPE, demo.FOLDER, CALIBRATION)
VIDEO_MODEL = Subject(
    demo_video.load_video_model, _sample_videos, demo_video.SHAPE, demo_video.FOLDER, VIDEO_CALIBRATION
)
