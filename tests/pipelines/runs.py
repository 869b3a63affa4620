"""One run of each tiny pipeline as one tensor, and the methods that are tried on them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

import fouriercache as fc
from tests.pipelines.tiny import dit_pipeline, embeddings, flux_pipeline, pixart_pipeline, wan_pipeline

STEPS = 8

METHODS: dict[str, Callable[[int], fc.Method]] = {
    "FORA at branches": lambda interval: fc.FORA(interval=interval, site="branch"),
    "FORA at the stack": lambda interval: fc.FORA(interval=interval, site="stack"),
    "TaylorSeer at branches": lambda interval: fc.TaylorSeer(interval=interval, site="branch"),
    "TaylorSeer at the stack": lambda interval: fc.TaylorSeer(interval=interval, site="stack"),
}

COMPUTED = {
    "FORA at branches": [0, 3, 7],  # the first, and every fourth counted back from the last
    "FORA at the stack": [0, 3, 7],
    "TaylorSeer at branches": [0, 1, 5],  # two to warm up, then every fourth
    "TaylorSeer at the stack": [0, 1, 5],
}
"""The steps of `STEPS` that each method computes at interval 4."""


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
    given = {"class_labels": [2], "guidance_scale": 1.5, "num_inference_steps": STEPS, "output_type": "pt"}
    images: Tensor = pipe(**given | changes, generator=torch.Generator().manual_seed(seed)).images
    return images


def run_flux(pipe: Any, seed: int = 0, **changes: Any) -> Tensor:
    given = {
        "prompt_embeds": embeddings(0, 1, 5, 32),
        "pooled_prompt_embeds": embeddings(1, 1, 32),
        "height": 8,
        "width": 8,
        "num_inference_steps": STEPS,
        "output_type": "latent",
    }
    latents: Tensor = pipe(**in_dtype_of(pipe, given | changes), generator=torch.Generator().manual_seed(seed)).images
    return latents


def run_pixart(pipe: Any, seed: int = 0, **changes: Any) -> Tensor:
    given = {
        "negative_prompt": None,
        "prompt_embeds": embeddings(0, 1, 5, 16),
        "prompt_attention_mask": torch.tensor([[1, 1, 1, 1, 0]]),
        "negative_prompt_embeds": embeddings(1, 1, 5, 16),
        "negative_prompt_attention_mask": torch.tensor([[1, 0, 0, 0, 0]]),
        "num_inference_steps": STEPS,
        "height": 8,
        "width": 8,
        "use_resolution_binning": False,
        "output_type": "latent",
    }
    latents: Tensor = pipe(**in_dtype_of(pipe, given | changes), generator=torch.Generator().manual_seed(seed)).images
    return latents


def run_wan(pipe: Any, seed: int = 0, **changes: Any) -> Tensor:
    given = {
        "prompt_embeds": embeddings(0, 1, 5, 32),
        "negative_prompt_embeds": embeddings(1, 1, 5, 32),
        "num_inference_steps": STEPS,
        "height": 16,
        "width": 16,
        "num_frames": 9,
        "output_type": "latent",
    }
    latents: Tensor = pipe(**in_dtype_of(pipe, given | changes), generator=torch.Generator().manual_seed(seed)).frames
    return latents


PIPELINES: dict[str, tuple[Callable[[], Any], Callable[..., Tensor]]] = {
    "DiTPipeline": (dit_pipeline, run_dit),
    "FluxPipeline": (flux_pipeline, run_flux),
    "PixArtAlphaPipeline": (pixart_pipeline, run_pixart),
    "WanPipeline": (wan_pipeline, run_wan),
}
"""What builds each pipeline, and what runs it."""
