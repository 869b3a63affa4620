"""Open-Sora 1.2's sampling loop: rectified flow by Euler steps, guidance in one batch, frames that are given.

Source: "Flow Straight and Fast" (arXiv 2209.03003, eq. 1) for the flow, "Scaling Rectified Flow Transformers"
(arXiv 2403.03206, eq. 23) for the shift of timesteps, Open-Sora's released code of version 1.2 for the rest.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from fouriercache.checks import check_whole
from fouriercache.errors import TrajectoryError

__all__ = ["TIMESTEPS", "KnownFrames", "flow_timesteps", "sample"]

TIMESTEPS = 1000
"""The timestep of pure noise."""

_BASE_PIXELS = 512 * 512
_FRAMES_ENCODED, _LATENT_FRAMES = 17, 5
"""The video autoencoder makes so many latent frames of so many frames."""


@dataclass(frozen=True)
class KnownFrames:
    """How far each latent frame is to be changed, for videos that go on from others or have images given.

    Attributes:
        strength: [B, T] in [0, 1]: 1 for a frame that is made from noise, 0 for one that stays as it is; in between, a
            frame joins the denoising where the timestep has fallen to strength * 1000, with fresh noise.
    """

    strength: Tensor


def flow_timesteps(
    num_steps: int, *, height: int, width: int, num_frames: int, is_shifted: bool = True
) -> tuple[float, ...]:
    """Return the timesteps of a run, falling from 1000: r t / (1 + (r - 1) t), with r for larger videos larger.

    r is the square root of pixels over 512 x 512, times that of the latent frames.

    Args:
        height, width: of the decoded video, in pixels. num_frames: of the decoded video.
        is_shifted: False for even timesteps.

    Raises:
        MethodError: a number is no positive integer.
    """
    for name, value in {"num_steps": num_steps, "height": height, "width": width, "num_frames": num_frames}.items():
        check_whole("flow_timesteps", name, value, least=1, advice="It is a count.")
    even = [1 - step / num_steps for step in range(num_steps)]
    latent_frames = 1 if num_frames == 1 else num_frames // _FRAMES_ENCODED * _LATENT_FRAMES
    ratio = (height * width / _BASE_PIXELS * latent_frames) ** 0.5 if is_shifted else 1.0
    return tuple(min(TIMESTEPS * ratio * time / (1 + (ratio - 1) * time), float(TIMESTEPS)) for time in even)


@torch.no_grad()
def sample(
    model: Callable[..., Any],
    latents: Tensor,
    text: Tensor,
    null_text: Tensor,
    *,
    timesteps: tuple[float, ...],
    height: int,
    width: int,
    fps: float,
    text_mask: Tensor | None = None,
    guidance: float = 7.0,
    known: KnownFrames | None = None,
    generator: torch.Generator | None = None,
    on_step: Callable[[int, Tensor], None] | None = None,
) -> Tensor:
    """Denoise `latents` [B, C, T, H, W].

    Args:
        model: an `OpenSoraTransformer3DModel`, or what `fc.optimize` made of one.
        latents: noise; with `known`, the frames that are given, and noise for those of strength 1.
        text, null_text: [B, length, channels], the prompts and no prompt (`model.null_caption`).
        timesteps: as from `flow_timesteps`.
        height, width: of the decoded video, in pixels. fps: its frames in a second.
        text_mask: [B, length], 0 for padding; the same for both texts, as in the released code.
        known: which frames are given.
        generator: of the noise that `known` frames get.
        on_step: is told the step and the latents after it.

    Raises:
        TrajectoryError: there are no timesteps, or they do not fall from at most 1000 to more than 0.
    """
    ends = (*timesteps, 0.0)
    if not timesteps or timesteps[0] > TIMESTEPS or any(one <= other for one, other in pairwise(ends)):
        raise TrajectoryError(
            f"Rectified flow runs down from noise to data, and these timesteps do not: {timesteps[:4]} ...\n"
            f"  Pass flow_timesteps(...): falling, from at most {TIMESTEPS}, above 0."
        )
    batch = latents.shape[0]
    both = torch.cat([text, null_text])
    inputs: dict[str, Any] = {
        "encoder_hidden_states": both,
        "encoder_attention_mask": None if text_mask is None else torch.cat([text_mask, text_mask]),
        **{name: torch.tensor([float(value)] * 2 * batch, device=latents.device)
           for name, value in {"fps": fps, "height": height, "width": width}.items()},
    }  # fmt: skip
    is_open = None if known is None else known.strength >= 1
    for step, (time, after) in enumerate(zip(timesteps, ends[1:], strict=True)):
        before = latents
        if known is not None and is_open is not None:
            now_open = known.strength * TIMESTEPS >= time
            noise = torch.randn(latents.shape, generator=generator, dtype=latents.dtype).to(latents.device)
            noisy = (1 - time / TIMESTEPS) * latents + time / TIMESTEPS * noise
            latents = torch.where(_over_latents(now_open & ~is_open), noisy, latents)
            is_open = now_open
            inputs["frame_mask"] = now_open.repeat(2, 1)
        stamp = torch.full((2 * batch,), time, dtype=torch.float32, device=latents.device)
        predicted = model(torch.cat([latents, latents]), stamp, **inputs, return_dict=False)[0]
        with_text, without = predicted[:, : latents.shape[1]].chunk(2)
        velocity = without + guidance * (with_text - without)
        latents = latents + velocity.to(latents.dtype) * ((time - after) / TIMESTEPS)
        if is_open is not None:
            latents = torch.where(_over_latents(is_open), latents, before)
        if on_step is not None:
            on_step(step, latents)
    return latents


def _over_latents(mask: Tensor) -> Tensor:
    return mask[:, None, :, None, None]
