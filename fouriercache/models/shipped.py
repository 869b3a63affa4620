"""What the shipped models have in common: files checked against their manifest, and a plain guided sampling loop."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fouriercache.errors import WeightsError

OnStep = Callable[[int, Tensor], None]
"""Called after each step with the step's index, from 0, and the samples so far."""


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check_files(folder: Path) -> None:
    """Compare every file that the manifest of a shipped model names with its recorded SHA-256.

    Raises:
        WeightsError: a file, or the manifest itself, is missing, unreadable or other than recorded.
    """
    advice = "Install the package again, or restore the file from the repository."
    manifest = folder / "manifest.json"
    try:
        recorded: dict[str, str] = json.loads(manifest.read_text())["files"]
    except FileNotFoundError as error:
        raise WeightsError(f"The demo model is not there.\n  missing: {manifest}\n  {advice}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise WeightsError(f"The demo model's manifest cannot be read.\n  file: {manifest}\n  {advice}") from error
    for name, digest in recorded.items():
        path = folder / name
        if not path.is_file():
            raise WeightsError(f"A file of the demo model is missing.\n  missing: {path}\n  {advice}")
        if (found := _digest(path)) != digest:
            raise WeightsError(
                f"A file of the demo model is cut short or changed: its SHA-256 is not the recorded one.\n"
                f"  file: {path}, {path.stat().st_size} bytes\n"
                f"  recorded: {digest}\n  found:    {found}\n  {advice}"
            )


def check_inputs(labels: Tensor, noise: Tensor, num_steps: int, *, shape: tuple[int, ...], null_class: int) -> None:
    """Check what a sampling loop is given.

    Args:
        shape: of one sample. null_class: the highest label there is.

    Raises:
        ValueError: labels or noise have another shape, dtype or range, or num_steps is below 1.
    """
    if noise.shape[1:] != shape or not noise.is_floating_point():
        form = ", ".join(map(str, shape))
        raise ValueError(f"noise must be a floating point [n, {form}], got {noise.dtype} {list(noise.shape)}.")
    if labels.shape != noise.shape[:1] or labels.dtype != torch.int64:
        raise ValueError(
            f"labels must be int64 [{noise.shape[0]}], one for each row of noise, "
            f"got {labels.dtype} {list(labels.shape)}."
        )
    if labels.numel() == 0 or int(labels.min()) < 0 or int(labels.max()) > null_class:
        raise ValueError(f"labels must be at least one class in 0..{null_class}, got {labels.tolist()}.")
    if num_steps < 1:
        raise ValueError(f"num_steps must be at least 1, got {num_steps}.")


def denoise(
    predict: Callable[[Tensor, Tensor], Tensor],
    scheduler: Any,
    noise: Tensor,
    *,
    guidance: float,
    on_step: OnStep | None = None,
) -> Tensor:
    """Run a diffusers scheduler's timesteps with one call of `predict` a step.

    Classifier-free guidance (Ho and Salimans 2022, arXiv:2207.12598, equation 6, on what the model predicts): the
    call's batch is the rows with their class, then the same rows with the null class, and p = p_null + guidance *
    (p_class - p_null). With guidance 1 that is p_class, so the second half is left out, as diffusers' pipelines do.

    Args:
        predict: takes the batch and the step's timestep, and returns what the model predicts of each row.
        noise: what the first step starts from.
    """
    samples = noise
    for step, timestep in enumerate(scheduler.timesteps):
        if guidance == 1:
            found = predict(samples, timestep)
        else:
            of_class, of_null = predict(torch.cat([samples, samples]), timestep).chunk(2)
            found = of_null + guidance * (of_class - of_null)
        samples = scheduler.step(found, timestep, samples).prev_sample
        if on_step is not None:
            on_step(step, samples)
    return samples


def guided_labels(labels: Tensor, guidance: float, null_class: int) -> Tensor:
    """The classes of the rows of each call of `predict`: of `labels`, then the null class, if there is guidance."""
    return labels if guidance == 1 else torch.cat([labels, torch.full_like(labels, null_class)])
