"""The trained model that the project ships, its scheduler, and the plain sampling loop around them.

A class-conditional DiT (256 tokens, 8 blocks, adaLN-zero, v-prediction) over 32 x 32 RGB images of ten kinds of
objects. There is no VAE: the model works on pixels in [-1, 1]. Everything is read from the folder beside this file,
never from a network.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from diffusers.models.transformers.dit_transformer_2d import DiTTransformer2DModel
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from torch import Tensor, nn

from fouriercache.calibrations import Calibration
from fouriercache.errors import WeightsError

__all__ = [
    "CALIBRATED",
    "CALIBRATED_GUIDANCE",
    "CLASS_NAMES",
    "FOLDER",
    "GUIDANCE",
    "NULL_CLASS",
    "SHAPE",
    "load_demo_calibration",
    "load_demo_model",
    "load_demo_scheduler",
    "sample",
]

FOLDER = Path(__file__).with_name("demo_dit")
"""The model in diffusers' layout, its card (README.md), its figures (metrics.json) and its manifest."""

CLASS_NAMES = (
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

CALIBRATED = (7, 10, 17)
"""Numbers of computed steps, of 50, for which a calibration of the method `Tuned` is shipped."""

CALIBRATED_GUIDANCE = (1.5, 3.5)
"""The guidance weights of the trajectories on which scalars were refined, for 7 computed steps."""

NULL_CLASS = 10
"""The label that stands for no class, for classifier-free guidance."""

SHAPE = (3, 32, 32)
"""Channels, height and width of an image."""

GUIDANCE = 1.5
"""The guidance weight of the model card's figures."""


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _check_files(folder: Path) -> None:
    """Compare every file that the manifest names with its recorded SHA-256.

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


def load_demo_model(folder: Path = FOLDER) -> DiTTransformer2DModel:
    """Load the trained model: fp32, on the CPU, in eval mode, without gradients.

    Raises:
        WeightsError: a file is missing, cut short, or other than the manifest records.
    """
    _check_files(folder)
    with torch.random.fork_rng(devices=[]):  # diffusers draws weights before it loads ours
        loader: Any = DiTTransformer2DModel  # diffusers does not annotate from_pretrained
        model: DiTTransformer2DModel = loader.from_pretrained(folder, local_files_only=True, low_cpu_mem_usage=False)
    return model.eval().requires_grad_(False)


def load_demo_scheduler(folder: Path = FOLDER) -> DDIMScheduler:
    """Load the scheduler the model was trained for: linear betas, 1000 timesteps, v-prediction.

    Raises:
        WeightsError: a file is missing, cut short, or other than the manifest records.
    """
    _check_files(folder)
    loader: Any = DDIMScheduler
    scheduler: DDIMScheduler = loader.from_pretrained(folder / "scheduler", local_files_only=True)
    return scheduler


def load_demo_calibration(computed: int, folder: Path = FOLDER) -> Calibration:
    """Load the step table for `Tuned` with `computed` of 50 steps of the demo's scheduler; for 7, with scalars.

    `training/calibrate_demo.py` made it, on eight images of eight classes.

    Raises:
        ValueError: there is none for that number of steps.
        CalibrationError: the file is missing or broken.
    """
    if computed not in CALIBRATED:
        raise ValueError(f"the demo model was calibrated for {CALIBRATED} computed steps, not {computed}.")
    return Calibration.load(folder / "calibration" / f"tuned-{computed}.safetensors")


def _check_inputs(labels: Tensor, noise: Tensor, num_steps: int) -> None:
    if noise.ndim != 4 or noise.shape[1:] != SHAPE or not noise.is_floating_point():
        raise ValueError(f"noise must be a floating point [n, 3, 32, 32], got {noise.dtype} {list(noise.shape)}.")
    if labels.shape != noise.shape[:1] or labels.dtype != torch.int64:
        raise ValueError(
            f"labels must be int64 [{noise.shape[0]}], one for each row of noise, "
            f"got {labels.dtype} {list(labels.shape)}."
        )
    if labels.numel() == 0 or int(labels.min()) < 0 or int(labels.max()) > NULL_CLASS:
        raise ValueError(f"labels must be at least one class in 0..{NULL_CLASS}, got {labels.tolist()}.")
    if num_steps < 1:
        raise ValueError(f"num_steps must be at least 1, got {num_steps}.")


@torch.no_grad()
def sample(
    model: nn.Module,
    scheduler: Any,
    labels: Tensor,
    noise: Tensor,
    *,
    num_steps: int = 50,
    guidance: float = GUIDANCE,
    on_step: Callable[[int, Tensor], None] | None = None,
) -> Tensor:
    """Sample one image for each label: a plain diffusers loop with one model call a step.

    Classifier-free guidance (Ho and Salimans 2022, arXiv:2207.12598, equation 6, on v): the call's batch is the rows
    with their class, then the same rows with `NULL_CLASS`, and v = v_null + guidance * (v_class - v_null). With
    guidance 1 that is v_class, so the second half is left out, as diffusers' pipelines do.

    Args:
        model: the demo model, or what `fouriercache.optimize` made of it.
        scheduler: a diffusers scheduler; its timesteps are set anew here.
        labels: int64 [n], each in 0..10.
        noise: [n, 3, 32, 32], standard normal; its dtype and device are the model's.
        on_step: called after each step with the step's index, from 0, and the images so far, [n, 3, 32, 32].

    Returns:
        [n, 3, 32, 32], near [-1, 1] but not clamped.

    Raises:
        ValueError: labels or noise have another shape, dtype or range, or num_steps is below 1.
    """
    _check_inputs(labels, noise, num_steps)
    scheduler.set_timesteps(num_steps, device=noise.device)
    guided = guidance != 1
    classes = torch.cat([labels, torch.full_like(labels, NULL_CLASS)]) if guided else labels
    images = noise * scheduler.init_noise_sigma
    for step, timestep in enumerate(scheduler.timesteps):
        batch = torch.cat([images, images]) if guided else images
        batch = scheduler.scale_model_input(batch, timestep)
        v = model(batch, timestep=timestep.expand(batch.shape[0]), class_labels=classes).sample
        if guided:
            of_class, of_null = v.chunk(2)
            v = of_null + guidance * (of_class - of_null)
        images = scheduler.step(v, timestep, images).prev_sample
        if on_step is not None:
            on_step(step, images)
    out: Tensor = images
    return out
