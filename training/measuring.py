"""What is measured of both demo models: batches of samples that are kept, what a judge says of them, contact sheets."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from safetensors.torch import load_file, save_file
from torch import Tensor

from fouriercache.models.judge import Judge, Statistics, frechet_distance

REAL_SEED, NOISE_SEED = 900_003, 910_000

SampleBatch = Callable[[Tensor, Tensor, Callable[[int, Tensor], None]], Tensor]
"""Takes labels, noise, and what is called after each step; returns the samples."""


def new_progress() -> Progress:
    """A bar on stderr."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    return Progress(*columns, TimeElapsedColumn(), TimeRemainingColumn(), console=Console(stderr=True))


def batch_noise(index: int, count: int, shape: tuple[int, ...]) -> Tensor:
    """The noise of a batch, [count, *shape]."""
    return torch.randn(count, *shape, generator=torch.Generator().manual_seed(NOISE_SEED + index))


def sample_kept(
    sample: SampleBatch, labels: Tensor, shape: tuple[int, ...], *, batch: int, steps: int, folder: Path, name: str
) -> Tensor:
    """Sample one for each label, a batch and a file of `folder` at a time; what is there already is read again.

    Args:
        shape: of one sample. steps: of a trajectory, for the bar. name: what the files begin with.
    """
    folder.mkdir(parents=True, exist_ok=True)
    parts = []
    with new_progress() as progress:
        task = progress.add_task(name, total=-(-len(labels) // batch) * steps)
        for index, part in enumerate(torch.split(labels, batch)):
            path = folder / f"{name}-{index:03}-{len(part)}.safetensors"
            if not path.is_file():
                noise = batch_noise(index, len(part), shape)
                found = sample(part, noise, lambda step, samples: progress.advance(task))
                save_file({"images": found.contiguous()}, path.with_suffix(".new"))
                path.with_suffix(".new").replace(path)
            parts.append(load_file(path)["images"])
            progress.update(task, completed=(index + 1) * steps)
    return torch.cat(parts)


def judge_samples(judge: Judge, samples: Tensor, labels: Tensor, names: tuple[str, ...]) -> dict[str, Any]:
    """Accuracy, accuracy of each class, and Frechet distance to the judge's reference of real samples."""
    features, predicted = judge.measure(samples)
    right = (predicted == labels).double()
    return {
        "images": len(labels),
        "accuracy": round(right.mean().item(), 4),
        "frechet_distance": round(frechet_distance(Statistics.of(features), judge.reference), 3),
        "class_accuracy": {name: round(right[labels == k].mean().item(), 3) for k, name in enumerate(names)},
    }


def save_sheet(cells: Tensor, path: Path, *, columns: int, upper: int, zoom: int = 2, gap: int = 4) -> None:
    """Write a picture of pictures, with a wider line below the first `upper` of them.

    Args:
        cells: float32 [n, 3, s, s] in [-1, 1], row by row.
    """
    images = cells.clamp(-1, 1).add(1).mul(127.5).round().byte()
    images = images.repeat_interleave(zoom, 2).repeat_interleave(zoom, 3)
    side = images.shape[-1] + gap
    sheet = torch.full((3, len(images) // columns * side + 2 * gap, columns * side + gap), 255, dtype=torch.uint8)
    for index, image in enumerate(images):
        below = gap if index >= upper else 0
        top, left = index // columns * side + gap + below, index % columns * side + gap
        sheet[:, top : top + image.shape[1], left : left + image.shape[2]] = image
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(sheet.permute(1, 2, 0).numpy()).save(path, optimize=True)
