"""One run of each tiny pipeline as one tensor, and the methods that are tried on them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

import fouriercache as fc
from tests.pipelines.tiny import dit_pipeline, embeddings, flux_pipeline, pixart_pipeline, wan_pipeline
from tests.pipelines.tiny_zoo import (
    TEXT,
    WIDTH,
    OpenSoraPipeline,
    cogvideox_pipeline,
    hunyuan_video_pipeline,
    latte_pipeline,
    ltx_pipeline,
    sd3_pipeline,
    wan22_pipeline,
)

STEPS = 8
WAN22_STEPS = 10
"""Of the run that two transformers share."""

METHODS: dict[str, Callable[[int], fc.Method]] = {
    "FORA at branches": lambda interval: fc.FORA(interval=interval, site="branch"),
    "FORA at the stack": lambda interval: fc.FORA(interval=interval, site="stack"),
    "TaylorSeer at branches": lambda interval: fc.TaylorSeer(interval=interval, site="branch"),
    "TaylorSeer at the stack": lambda interval: fc.TaylorSeer(interval=interval, site="stack"),
}


def scheduled(name: str, steps: int = STEPS) -> list[int]:
    """The steps that a method computes at interval 4: of FORA the first, and every fourth counted back from the last;
    of TaylorSeer two to warm up, then every fourth."""
    if name.startswith("FORA"):
        return [step for step in range(steps) if step == 0 or (steps - 1 - step) % 4 == 0]
    return [step for step in range(steps) if step < 2 or (step - 1) % 4 == 0]


def steps_of_each(pipe: Any) -> dict[str, int]:
    """The denoisers of a pipeline, in the order in which a run needs them, and how many steps each one takes."""
    boundary = getattr(getattr(pipe, "config", None), "boundary_ratio", None)
    if boundary is None:
        return {"transformer": STEPS}
    pipe.scheduler.set_timesteps(WAN22_STEPS)
    first = int((pipe.scheduler.timesteps >= boundary * pipe.scheduler.config.num_train_timesteps).sum())
    return {"transformer": first, "transformer_2": WAN22_STEPS - first}


def in_dtype_of(pipe: Any, given: Mapping[str, Any]) -> dict[str, Any]:
    """Cast the floating point tensors to the transformer's type, as text encoders cast with the pipeline would."""
    dtype = pipe.transformer.dtype
    return {
        name: value.to(dtype) if isinstance(value, Tensor) and value.is_floating_point() else value
        for name, value in given.items()
    }


def relative_error(value: Tensor, reference: Tensor) -> float:
    """||value - reference|| / ||reference||, in float64."""
    return float((value.double() - reference.double()).norm() / reference.double().norm())


def run_dit(pipe: Any, seed: int = 0, **changes: Any) -> Tensor:
    given = {"class_labels": [2], "guidance_scale": 1.5, "output_type": "pt"}
    images: Tensor = _run(pipe, seed, given | changes).images
    return images


def run_flux(pipe: Any, seed: int = 0, **changes: Any) -> Tensor:
    given = {
        "prompt_embeds": embeddings(0, 1, 5, 32),
        "pooled_prompt_embeds": embeddings(1, 1, 32),
        "height": 8,
        "width": 8,
    }
    latents: Tensor = _run(pipe, seed, given | changes).images
    return latents


def run_pixart(pipe: Any, seed: int = 0, **changes: Any) -> Tensor:
    given = {
        "negative_prompt": None,
        "prompt_embeds": embeddings(0, 1, 5, 16),
        "prompt_attention_mask": torch.tensor([[1, 1, 1, 1, 0]]),
        "negative_prompt_embeds": embeddings(1, 1, 5, 16),
        "negative_prompt_attention_mask": torch.tensor([[1, 0, 0, 0, 0]]),
        "height": 8,
        "width": 8,
        "use_resolution_binning": False,
    }
    latents: Tensor = _run(pipe, seed, given | changes).images
    return latents


def run_wan(pipe: Any, seed: int = 0, **changes: Any) -> Tensor:
    given = {
        "prompt_embeds": embeddings(0, 1, 5, 32),
        "negative_prompt_embeds": embeddings(1, 1, 5, 32),
        "height": 16,
        "width": 16,
        "num_frames": 9,
    }
    latents: Tensor = _run(pipe, seed, given | changes).frames
    return latents


def run_sd3(pipe: Any, seed: int = 0, **changes: Any) -> Tensor:
    given = {
        "prompt_embeds": embeddings(0, 1, TEXT, WIDTH),
        "pooled_prompt_embeds": embeddings(1, 1, 20),
        "negative_prompt_embeds": embeddings(2, 1, TEXT, WIDTH),
        "negative_pooled_prompt_embeds": embeddings(3, 1, 20),
        "height": 64,
        "width": 64,
    }
    latents: Tensor = _run(pipe, seed, given | changes).images
    return latents


def run_wan22(pipe: Any, seed: int = 0, **changes: Any) -> Tensor:
    given = _guided() | {"num_inference_steps": WAN22_STEPS, "guidance_scale_2": 3.0, "height": 64, "width": 64}
    latents: Tensor = _run(pipe, seed, given | {"num_frames": 5} | changes).frames
    return latents


def run_cogvideox(pipe: Any, seed: int = 0, **changes: Any) -> Tensor:
    given = _guided() | {"height": 64, "width": 64, "num_frames": 5}
    latents: Tensor = _run(pipe, seed, given | changes).frames
    return latents


def run_hunyuan_video(pipe: Any, seed: int = 0, **changes: Any) -> Tensor:
    given = _guided() | {
        "pooled_prompt_embeds": embeddings(2, 1, 8),
        "prompt_attention_mask": _one_pad(),
        "negative_pooled_prompt_embeds": embeddings(3, 1, 8),
        "negative_prompt_attention_mask": torch.ones(1, TEXT, dtype=torch.int64),
        "true_cfg_scale": 3.0,
        "height": 64,
        "width": 64,
        "num_frames": 5,
    }
    latents: Tensor = _run(pipe, seed, given | changes).frames
    return latents


def run_ltx(pipe: Any, seed: int = 0, **changes: Any) -> Tensor:
    given = _guided() | {
        "prompt_attention_mask": _one_pad(),
        "negative_prompt_attention_mask": torch.ones(1, TEXT, dtype=torch.int64),
        "height": 128,
        "width": 256,
        "num_frames": 9,
    }
    latents: Tensor = _run(pipe, seed, given | changes).frames
    return latents


def run_latte(pipe: Any, seed: int = 0, **changes: Any) -> Tensor:
    given = _guided() | {"negative_prompt": None, "height": 64, "width": 64, "video_length": 4}
    latents: Tensor = _run(pipe, seed, given | changes).frames
    return latents


def run_opensora(pipe: Any, seed: int = 0, **changes: Any) -> Tensor:
    given = {"prompt_embeds": embeddings(0, 1, TEXT, WIDTH), "text_mask": _one_pad(), "num_inference_steps": STEPS}
    latents: Tensor = pipe(**in_dtype_of(pipe, given | changes), generator=torch.Generator().manual_seed(seed))
    return latents


def _guided() -> dict[str, Any]:
    """A prompt and a negative one for a denoiser of the zoo."""
    return {
        "prompt_embeds": embeddings(0, 1, TEXT, WIDTH),
        "negative_prompt_embeds": embeddings(1, 1, TEXT, WIDTH),
    }


def _one_pad() -> Tensor:
    """The mask of a prompt whose last token is padding."""
    return (torch.arange(TEXT) < TEXT - 1).long()[None]


def _run(pipe: Any, seed: int, given: Mapping[str, Any]) -> Any:
    asked = {"num_inference_steps": STEPS, "output_type": "latent"} | in_dtype_of(pipe, given)
    return pipe(**asked, generator=torch.Generator().manual_seed(seed))


PIPELINES: dict[str, tuple[Callable[[], Any], Callable[..., Tensor]]] = {
    "DiTPipeline": (dit_pipeline, run_dit),
    "FluxPipeline": (flux_pipeline, run_flux),
    "PixArtAlphaPipeline": (pixart_pipeline, run_pixart),
    "WanPipeline": (wan_pipeline, run_wan),
    "StableDiffusion3Pipeline": (sd3_pipeline, run_sd3),
    "WanPipeline 2.2": (wan22_pipeline, run_wan22),
    "CogVideoXPipeline": (cogvideox_pipeline, run_cogvideox),
    "HunyuanVideoPipeline": (hunyuan_video_pipeline, run_hunyuan_video),
    "LTXPipeline": (ltx_pipeline, run_ltx),
    "LattePipeline": (latte_pipeline, run_latte),
    "Open-Sora's loop": (OpenSoraPipeline, run_opensora),
}
"""What builds each pipeline, and what runs it."""
