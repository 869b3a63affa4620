"""The trained video model that the project ships, its scheduler, and the plain sampling loop around them.

A class-conditional video transformer (diffusers' Wan: attention over all frames, 3-D rotary positions, 8 x 6 x 6 = 288
tokens) that was trained by flow matching on 8 frames of 24 x 24 RGB pixels in [-1, 1]: three kinds of objects that move
in three ways. There is no VAE and no text encoder: a class is two embedding vectors, read from a file beside the
weights. Everything is read from the folder beside this file, never from a network.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from diffusers.models.transformers.transformer_wan import WanTransformer3DModel
from diffusers.schedulers.scheduling_flow_match_euler_discrete import FlowMatchEulerDiscreteScheduler
from safetensors.torch import load_file
from torch import Tensor, nn

from fouriercache.models.shipped import OnStep, check_files, check_inputs, denoise, guided_labels

__all__ = [
    "CLASS_NAMES",
    "FOLDER",
    "GUIDANCE",
    "NULL_CLASS",
    "SHAPE",
    "load_class_embeddings",
    "load_video_model",
    "load_video_scheduler",
    "sample",
]

FOLDER = Path(__file__).with_name("demo_video")
"""The model in diffusers' layout, its class embeddings, its card (README.md), its figures and its manifest."""

CLASS_NAMES = tuple(
    f"{motion} {shape}"
    for shape in ("striped square", "checkered disc", "star")
    for motion in ("drifting", "spinning", "pulsing")
)

NULL_CLASS = 9
"""The label that stands for no class, for classifier-free guidance."""

SHAPE = (3, 8, 24, 24)
"""Channels, frames, height and width of a video."""

GUIDANCE = 2.0
"""The guidance weight of the model card's figures."""


def load_video_model(folder: Path = FOLDER) -> WanTransformer3DModel:
    """Load the trained model: fp32, on the CPU, in eval mode, without gradients.

    Raises:
        WeightsError: a file is missing, cut short, or other than the manifest records.
    """
    check_files(folder)
    maker: Any = WanTransformer3DModel  # diffusers does not annotate from_config
    with torch.random.fork_rng(devices=[]):  # the initial weights are thrown away; leave the caller's draws alone
        model: WanTransformer3DModel = maker.from_config(json.loads((folder / "config.json").read_text()))
    # Not from_pretrained, which loads this class only where accelerate is installed.
    model.load_state_dict(load_file(folder / "diffusion_pytorch_model.safetensors"))
    return model.eval().requires_grad_(False)


def load_video_scheduler(folder: Path = FOLDER) -> FlowMatchEulerDiscreteScheduler:
    """Load the scheduler the model was trained for: flow matching, Euler steps, no shift of the noise levels.

    Raises:
        WeightsError: a file is missing, cut short, or other than the manifest records.
    """
    check_files(folder)
    loader: Any = FlowMatchEulerDiscreteScheduler
    scheduler: FlowMatchEulerDiscreteScheduler = loader.from_pretrained(folder / "scheduler", local_files_only=True)
    return scheduler


def load_class_embeddings(folder: Path = FOLDER) -> Tensor:
    """Load what the model is told of each class, float32 [10, 2, 32]; the last is `NULL_CLASS`.

    The first vector is that of the shape, the second that of the motion. They are the model's
    `encoder_hidden_states`.

    Raises:
        WeightsError: a file is missing, cut short, or other than the manifest records.
    """
    check_files(folder)
    return load_file(folder / "classes.safetensors")["embeddings"]


@torch.no_grad()
def sample(
    model: nn.Module,
    scheduler: Any,
    embeddings: Tensor,
    labels: Tensor,
    noise: Tensor,
    *,
    num_steps: int = 50,
    guidance: float = GUIDANCE,
    on_step: OnStep | None = None,
) -> Tensor:
    """Sample one video for each label: a plain diffusers loop with one model call a step, as `shipped.denoise` says.

    Args:
        model: the demo video model, or what `fouriercache.optimize` made of it.
        scheduler: a diffusers flow-matching scheduler; its timesteps are set anew here.
        embeddings: of the classes, [10, 2, 32].
        labels: int64 [n], each in 0..9.
        noise: [n, 3, 8, 24, 24], standard normal; its dtype and device are the model's.
        on_step: called after each step with the step's index, from 0, and the videos so far.

    Returns:
        [n, 3, 8, 24, 24], near [-1, 1] but not clamped.

    Raises:
        ValueError: labels or noise have another shape, dtype or range, or num_steps is below 1.
    """
    check_inputs(labels, noise, num_steps, shape=SHAPE, null_class=NULL_CLASS)
    scheduler.set_timesteps(num_steps, device=noise.device)
    words = embeddings.to(noise)[guided_labels(labels, guidance, NULL_CLASS)]

    def predict(batch: Tensor, timestep: Tensor) -> Tensor:
        steps = timestep.expand(batch.shape[0])
        velocity: Tensor = model(hidden_states=batch, timestep=steps, encoder_hidden_states=words).sample
        return velocity

    return denoise(predict, scheduler, noise, guidance=guidance, on_step=on_step)
