"""A shipped model, the samples it is asked for, and what a method does to them; every run is kept and read again."""

from __future__ import annotations

import hashlib
import json
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

import fouriercache as fc
from fouriercache.models import demo

from .exchange import Exchange
from .subjects import HELD_OUT, IMAGE_MODEL, MORE, Images, Subject

ROOT = Path(__file__).parents[2]
Notice = Callable[[str], None]


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
        return load_file(self.path)["images"][: len(self.errors)]

    def of_first(self, count: int) -> Trial:
        """The same of the first images alone."""
        return replace(self, errors=self.errors[:count])


class NotMeasuredError(Exception):
    """Something has not been measured yet, and only what is kept may be read."""


class Lab:
    """Samples with a shipped model, uncached or with a method, and keeps what came out under `folder`.

    Attributes:
        held_out, more: the images that are measured on. only_kept: whether nothing is sampled and only kept runs are
            read. runs: how many were sampled.
    """

    def __init__(
        self,
        folder: Path,
        *,
        steps: int = 50,
        images: Images = HELD_OUT,
        more: Images = MORE,
        notice: Notice = print,
        subject: Subject = IMAGE_MODEL,
    ) -> None:
        self.folder = folder
        self.steps = steps
        self.held_out, self.more = images, more
        self.subject, self.model = subject, subject.load_model()
        self.notice = notice
        self.is_quick = images.count < HELD_OUT.count
        self.only_kept = False
        self.runs = 0
        self._exchange = Exchange(self.model, steps)
        self._commits: set[str] = set()
        self._weights = subject.files
        folder.mkdir(parents=True, exist_ok=True)

    def beside(self, subject: Subject, images: Images) -> Lab:
        """A lab of another model, for as many steps, whose runs are kept in a folder of their own."""
        weights = subject.files["diffusion_pytorch_model.safetensors"]
        images = replace(images, seeds=images.seeds[:1], classes=images.classes[:5]) if self.is_quick else images
        folder = self.folder / f"{subject.folder.name}-{weights[:12]}"
        found = Lab(folder, steps=self.steps, images=images, more=images, notice=self.notice, subject=subject)
        found.only_kept, found.is_quick, found._commits = self.only_kept, self.is_quick, self._commits
        return found

    def calibration_set(self, denoiser: Any, guidance: float | None = None) -> Tensor:
        """Sample what methods are fitted on, at its own guidance weight or at another."""
        images = self.subject.calibration
        images = images if guidance is None else replace(images, guidance=guidance)
        ((labels, noise),) = images.batches(self.subject.shape)
        return self._sample(denoiser, labels, noise, images)

    def begin(self, text: str = "") -> None:
        """Say that something is measured now.

        Raises:
            NotMeasuredError: only what is kept may be read.
        """
        if self.only_kept:
            raise NotMeasuredError(text.strip() or "a run")
        if text:
            self.notice(text)

    def uncached(self, images: Images) -> Tensor:
        """The images of the model itself, [n, 3, 32, 32]."""
        path = self.folder / f"{self._key('uncached', images)}.safetensors"
        if not path.is_file():
            self.begin(f"  uncached, {images.count} images")
            batches = images.batches(self.subject.shape)
            _save(path, torch.cat([self._sample(self.model, *batch, images) for batch in batches]))
        return load_file(path)["images"]

    def measure(self, method: fc.Method, images: Images | None = None) -> Trial:
        """Sample with `method`, compare with the uncached images."""
        images = self.held_out if images is None else images
        reference = self.uncached(images)
        key = self._key(repr(method.with_(name="measured")), images)
        is_fixed = method.schedule.steps(self.steps) is not None  # else batches compute different steps
        is_part = images == self.held_out != self.more
        if is_fixed and is_part and self._knows(method, self.more):
            return self.measure(method, self.more).of_first(images.count)
        facts, path = self.folder / f"{key}.json", self.folder / f"{key}.safetensors"
        if not facts.is_file():
            self.begin()
            began = time.perf_counter()
            fast = self._exchange.module_for(method)
            parts, computed, held = [], list[int](), list[float]()
            for labels, noise in images.batches(self.subject.shape):
                fast.reset()
                parts.append(self._sample(fast, labels, noise, images))
                computed.append(max(map(len, fast.session.computed_steps.values())))
                held.append(fast.cache_bytes / len(labels))
            _save(path, torch.cat(parts))
            found: dict[str, Any] = {
                "method": repr(method),
                "commit": package_commit(),
                "images": asdict(images),
                "errors": relative_errors(torch.cat(parts), reference),
                "computed": sum(computed) / len(computed),
                "cache_bytes": sum(held) / len(held),
            }
            facts.write_text(json.dumps(found))
            trial = Trial(tuple(found["errors"]), found["computed"], found["cache_bytes"], path)
            self._tell(method, images, trial, began)
        known = json.loads(facts.read_text())
        self._commits.add(known["commit"])
        return Trial(tuple(known["errors"]), known["computed"], known["cache_bytes"], path)

    def _knows(self, method: fc.Method, images: Images) -> bool:
        return (self.folder / f"{self._key(repr(method.with_(name='measured')), images)}.json").is_file()

    def _tell(self, method: fc.Method, images: Images, trial: Trial, began: float) -> None:
        self.runs += 1
        self.notice(
            f"  {method.name}, {method.site}, {images.count} images: error {trial.mean:.4f} at {trial.computed:.1f} "
            f"computed steps (run {self.runs}, {time.perf_counter() - began:.0f} s)"
        )

    def measure_sampler(self, name: str, build: Callable[[], Any], steps: int) -> Trial:
        """Sample `more` in fewer steps of another scheduler, with no cache; compare with the uncached."""
        images = self.more
        path = self.folder / f"{self._key(f'{name} {steps}', images)}.safetensors"
        if not path.is_file():
            self.begin(f"  {name}, {steps} steps")
            parts = [
                demo.sample(self.model, build(), *batch, num_steps=steps, guidance=images.guidance)
                for batch in images.batches(self.subject.shape)
            ]
            _save(path, torch.cat(parts))
        errors = relative_errors(load_file(path)["images"], self.uncached(images))
        return Trial(tuple(errors), steps, 0, path)

    def output_changes(self) -> list[float]:
        """Relative L1 changes of the uncached model's output from step to step, over the first batch of `held_out`."""
        outputs: list[Tensor] = []
        hook = self.model.register_forward_hook(lambda _, __, output: outputs.append(output.sample))
        try:
            self._sample(self.model, *self.held_out.batches()[0], self.held_out)
        finally:
            hook.remove()
        return [float((new - old).abs().mean() / old.abs().mean()) for old, new in pairwise(outputs)]

    def take_commits(self) -> str:
        """Return the package's commits on which the runs were made that have been read since this was last asked."""
        commits, self._commits = self._commits or {package_commit()}, set()
        return ", ".join(sorted(commits))

    def _sample(self, module: Any, labels: Tensor, noise: Tensor, images: Images) -> Tensor:
        return self.subject.sample(module, labels, noise, self.steps, images.guidance, None)

    def _key(self, what: str, images: Images) -> str:
        words = json.dumps([what, asdict(images), self.steps, self._weights, torch.__version__])
        return hashlib.sha256(words.encode()).hexdigest()[:20]


@cache
def package_commit() -> str:
    """The last commit that changed the package, and whether its sources have changed since."""

    def ask(*words: str) -> str:
        command = ["git", *words, "--", "fouriercache"]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()

    return ask("log", "-1", "--format=%h") + (" with changes" if ask("status", "--porcelain") else "")


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
