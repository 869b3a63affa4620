"""The trained model that the project ships, its scheduler, and the plain sampling loop around them.

A class-conditional DiT (256 tokens, 8 blocks, adaLN-zero, v-prediction) over 32 x 32 RGB images of ten kinds of
objects. There is no VAE: the model works on pixels in [-1, 1]. Everything is read from the folder beside this file,
never from a network.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from fouriercache.calibrations import Calibration
from fouriercache.models.shipped import OnStep, check_files, check_inputs, denoise, guided_labels

if TYPE_CHECKING:  # the models of diffusers take seconds to import, and what is said of the demo here needs none
    from diffusers.models.transformers.dit_transformer_2d import DiTTransformer2DModel
    from diffusers.schedulers.scheduling_ddim import DDIMScheduler

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

CALIBRATED_GUIDANCE = (2.5, 4.0)
"""The guidance weights of the trajectories on which scalars were refined, for 7 computed steps."""

NULL_CLASS = 10
"""The label that stands for no class, for classifier-free guidance."""

SHAPE = (3, 32, 32)
"""Channels, height and width of an image."""

GUIDANCE = 1.5
"""The guidance weight of the model card's figures."""


def load_demo_model(folder: Path = FOLDER) -> DiTTransformer2DModel:
    """Load the trained model: fp32, on the CPU, in eval mode, without gradients.

    Raises:
        WeightsError: a file is missing, cut short, or other than the manifest records.
    """
    from diffusers.models.transformers.dit_transformer_2d import DiTTransformer2DModel

    check_files(folder)
    with torch.random.fork_rng(devices=[]):  # diffusers draws weights before it loads ours
        loader: Any = DiTTransformer2DModel  # diffusers does not annotate from_pretrained
        model: DiTTransformer2DModel = loader.from_pretrained(folder, local_files_only=True, low_cpu_mem_usage=False)
    return model.eval().requires_grad_(False)


def load_demo_scheduler(folder: Path = FOLDER) -> DDIMScheduler:
    """Load the scheduler the model was trained for: linear betas, 1000 timesteps, v-prediction.

    Raises:
        WeightsError: a file is missing, cut short, or other than the manifest records.
    """
    from diffusers.schedulers.scheduling_ddim import DDIMScheduler

    check_files(folder)
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


@torch.no_grad()
def sample(
    model: nn.Module,
    scheduler: Any,
    labels: Tensor,
    noise: Tensor,
    *,
    num_steps: int = 50,
    guidance: float = GUIDANCE,
    on_step: OnStep | None = None,
) -> Tensor:
    """Sample one image for each label: a plain diffusers loop with one model call a step, as `shipped.denoise` says.

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
    check_inputs(labels, noise, num_steps, shape=SHAPE, null_class=NULL_CLASS)
    scheduler.set_timesteps(num_steps, device=noise.device)
    classes = guided_labels(labels, guidance, NULL_CLASS)

    def predict(batch: Tensor, timestep: Tensor) -> Tensor:
        scaled = scheduler.scale_model_input(batch, timestep)
        v: Tensor = model(scaled, timestep=timestep.expand(batch.shape[0]), class_labels=classes).sample
        return v

    return denoise(predict, scheduler, noise * scheduler.init_noise_sigma, guidance=guidance, on_step=on_step)
