"""The shipped model, the images it is asked for, and what a method does to them; every run is kept and read again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

import fouriercache as fc
from fouriercache.models import demo

Notice = Callable[[str], None]


@dataclass(frozen=True)
class Images:
    """Which images are sampled: one for each class and seed, in batches of one seed.

    `calibration` images are what methods are fitted on; nothing is measured on them. Two classes, the last, are in no
    calibration image.
    """

    seeds: tuple[int, ...]
    classes: tuple[int, ...] = tuple(range(len(demo.CLASS_NAMES)))
    guidance: float = demo.GUIDANCE

    @property
    def count(self) -> int:
        return len(self.seeds) * len(self.classes)

    def batches(self) -> list[tuple[Tensor, Tensor]]:
        """Labels int64 [classes] and noise float32 [classes, 3, 32, 32] for each seed."""
        labels = torch.tensor(self.classes)
        return [
            (labels, torch.randn(len(labels), *demo.SHAPE, generator=torch.Generator().manual_seed(seed)))
            for seed in self.seeds
        ]


HELD_OUT = Images(seeds=(7_001, 7_002, 7_003, 7_004))
CALIBRATION = Images(seeds=(3_001,), classes=tuple(range(8)))


@dataclass(frozen=True)
class Trial:
    """What one method did: for each image its error, and what the run cost.

    Attributes:
        errors: relative L2 distance of each final image to the uncached one.
        computed: computed steps, mean over the batches. cache_bytes: of one image's features, both guidance halves.
        path: file of the images, float32 [n, 3, 32, 32].
    """

    errors: tuple[float, ...]
    computed: float
    cache_bytes: float
    path: Path

    @property
    def mean(self) -> float:
        """Mean error."""
        return sum(self.errors) / len(self.errors)

    def images(self) -> Tensor:
        """The final images, [n, 3, 32, 32]."""
        return load_file(self.path)["images"]


class Lab:
    """Samples with the shipped model, uncached or with a method, and keeps what came out under `folder`."""

    def __init__(self, folder: Path, *, steps: int = 50, images: Images = HELD_OUT, notice: Notice = print) -> None:
        self.folder = folder
        self.steps = steps
        self.held_out = images
        self.model = demo.load_demo_model()
        self._notice = notice
        self._weights = json.loads((demo.FOLDER / "manifest.json").read_text())["files"]
        folder.mkdir(parents=True, exist_ok=True)

    def uncached(self, images: Images) -> Tensor:
        """The images of the model itself, [n, 3, 32, 32]."""
        path = self.folder / f"{self._key('uncached', images)}.safetensors"
        if not path.is_file():
            self._notice(f"uncached, {images.count} images")
            _save(path, torch.cat([self._sample(self.model, *batch, images) for batch in images.batches()]))
        return load_file(path)["images"]

    def measure(self, method: fc.Method, images: Images | None = None) -> Trial:
        """Sample with `method`, compare with the uncached images."""
        images = self.held_out if images is None else images
        reference = self.uncached(images)
        key = self._key(repr(method), images)
        facts, path = self.folder / f"{key}.json", self.folder / f"{key}.safetensors"
        if not facts.is_file():
            self._notice(f"{method.name}, {method.site}, {images.count} images")
            fast = fc.optimize(self.model, method, num_steps=self.steps)
            parts, computed, held = [], list[int](), list[float]()
            for labels, noise in images.batches():
                fast.reset()
                parts.append(self._sample(fast, labels, noise, images))
                computed.append(max(map(len, fast.session.computed_steps.values())))
                held.append(fast.cache_bytes / len(labels))
            _save(path, torch.cat(parts))
            found = {
                "method": repr(method),
                "images": asdict(images),
                "errors": relative_errors(torch.cat(parts), reference),
                "computed": sum(computed) / len(computed),
                "cache_bytes": sum(held) / len(held),
            }
            facts.write_text(json.dumps(found))
        known = json.loads(facts.read_text())
        return Trial(tuple(known["errors"]), known["computed"], known["cache_bytes"], path)

    def measure_sampler(self, name: str, build: Callable[[], Any], steps: int) -> Trial:
        """Sample the held-out images in fewer steps of another scheduler, with no cache; compare with the uncached."""
        images = self.held_out
        path = self.folder / f"{self._key(f'{name} {steps}', images)}.safetensors"
        if not path.is_file():
            self._notice(f"{name}, {steps} steps")
            parts = [
                demo.sample(self.model, build(), *batch, num_steps=steps, guidance=images.guidance)
                for batch in images.batches()
            ]
            _save(path, torch.cat(parts))
        errors = relative_errors(load_file(path)["images"], self.uncached(images))
        return Trial(tuple(errors), steps, 0, path)

    def _sample(self, module: Any, labels: Tensor, noise: Tensor, images: Images) -> Tensor:
        return demo.sample(
            module, demo.load_demo_scheduler(), labels, noise, num_steps=self.steps, guidance=images.guidance
        )

    def _key(self, what: str, images: Images) -> str:
        words = json.dumps([what, asdict(images), self.steps, self._weights, torch.__version__])
        return hashlib.sha256(words.encode()).hexdigest()[:20]


def relative_errors(images: Tensor, reference: Tensor) -> list[float]:
    """||a - b|| / ||b|| of each image, both norms L2, in float64."""
    difference = (images.double() - reference.double()).flatten(1).norm(dim=1)
    return [float(value) for value in difference / reference.double().flatten(1).norm(dim=1)]


def _save(path: Path, images: Tensor) -> None:
    fresh = path.with_suffix(".new")
    save_file({"images": images.contiguous()}, fresh)
    fresh.replace(path)


def uniform(steps: int, computed: int) -> tuple[int, ...]:
    """`computed` of `steps` steps, the first and the last among them, as evenly as whole numbers allow."""
    if computed == 1:
        return (0,)
    return tuple(round(k * (steps - 1) / (computed - 1)) for k in range(computed))


def labels_of(images: Images) -> Sequence[int]:
    """The class of each image, in the order of `Trial.errors`."""
    return [label for _ in images.seeds for label in images.classes]
