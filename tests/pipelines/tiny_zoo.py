"""diffusers' pipeline classes around the zoo's tiny denoisers, and Open-Sora's loop; no text encoders and no VAE."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import torch
from diffusers.pipelines.cogvideo.pipeline_cogvideox import CogVideoXPipeline
from diffusers.pipelines.hunyuan_video.pipeline_hunyuan_video import HunyuanVideoPipeline
from diffusers.pipelines.latte.pipeline_latte import LattePipeline
from diffusers.pipelines.ltx.pipeline_ltx import LTXPipeline
from diffusers.pipelines.stable_diffusion_3.pipeline_stable_diffusion_3 import StableDiffusion3Pipeline
from diffusers.pipelines.wan.pipeline_wan import WanPipeline
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from diffusers.schedulers.scheduling_ddim_cogvideox import CogVideoXDDIMScheduler
from diffusers.schedulers.scheduling_flow_match_euler_discrete import FlowMatchEulerDiscreteScheduler
from torch import Tensor

from fouriercache.models.opensora import OpenSoraTransformer3DModel, flow_timesteps, sample
from fouriercache.models.zoo import EXAMPLES
from tests.pipelines.tiny import seeded

ABSENT: Any = None
TEXT, WIDTH = 6, 12
"""Tokens of a prompt, and the width of each, for all of the zoo's denoisers."""


def zoo_model(name: str, depth: int = 1, seed: int = 0, **changes: Any) -> Any:
    """Build a denoiser of the zoo with changes to its configuration, as shallow as it goes: captures take the time."""
    example = EXAMPLES[name]
    return seeded(getattr(import_module(example.module), name), seed, **example.config(depth) | changes)


def sd3_pipeline() -> StableDiffusion3Pipeline:
    return StableDiffusion3Pipeline(
        transformer=zoo_model("SD3Transformer2DModel", depth=2),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
        vae=ABSENT,
        text_encoder=ABSENT,
        tokenizer=ABSENT,
        text_encoder_2=ABSENT,
        tokenizer_2=ABSENT,
        text_encoder_3=ABSENT,
        tokenizer_3=ABSENT,
    )


def wan22_pipeline() -> WanPipeline:
    """Two transformers share a run: of ten steps, the first six are above the boundary."""
    return WanPipeline(
        tokenizer=ABSENT,
        text_encoder=ABSENT,
        vae=ABSENT,
        scheduler=FlowMatchEulerDiscreteScheduler(shift=7.0),
        transformer=zoo_model("WanTransformer3DModel"),
        transformer_2=zoo_model("WanTransformer3DModel", seed=1),
        boundary_ratio=0.85,
    )


def cogvideox_pipeline() -> CogVideoXPipeline:
    return CogVideoXPipeline(
        tokenizer=ABSENT,
        text_encoder=ABSENT,
        vae=ABSENT,
        transformer=zoo_model(
            "CogVideoXTransformer3DModel", attention_head_dim=16, use_rotary_positional_embeddings=True
        ),
        scheduler=CogVideoXDDIMScheduler(prediction_type="v_prediction", rescale_betas_zero_snr=True),
    )


def hunyuan_video_pipeline() -> HunyuanVideoPipeline:
    return HunyuanVideoPipeline(
        text_encoder=ABSENT,
        tokenizer=ABSENT,
        transformer=zoo_model("HunyuanVideoTransformer3DModel"),
        vae=ABSENT,
        scheduler=FlowMatchEulerDiscreteScheduler(shift=7.0),
        text_encoder_2=ABSENT,
        tokenizer_2=ABSENT,
    )


def ltx_pipeline() -> LTXPipeline:
    return LTXPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True),
        vae=ABSENT,
        text_encoder=ABSENT,
        tokenizer=ABSENT,
        transformer=zoo_model("LTXVideoTransformer3DModel"),
    )


def latte_pipeline() -> LattePipeline:
    return LattePipeline(
        tokenizer=ABSENT,
        text_encoder=ABSENT,
        vae=ABSENT,
        transformer=zoo_model("LatteTransformer3DModel"),
        scheduler=DDIMScheduler(beta_schedule="linear", clip_sample=False),
    )


class OpenSoraPipeline:
    """Open-Sora's denoiser with the loop that ships with it, called as a pipeline is."""

    def __init__(self) -> None:
        self.transformer = seeded(
            OpenSoraTransformer3DModel,
            hidden_size=16,
            depth=1,
            num_heads=2,
            caption_channels=WIDTH,
            model_max_length=TEXT,
            input_sq_size=64,
        )

    def set_progress_bar_config(self, **_: object) -> None:
        """It shows none."""

    def __call__(self, prompt_embeds: Tensor, num_inference_steps: int, generator: torch.Generator, **more: Any) -> Any:
        height, width = 32, 48
        latents = torch.randn(1, 4, 3, 4, 6, generator=generator, dtype=prompt_embeds.dtype)
        return sample(
            self.transformer,
            latents,
            prompt_embeds,
            self.transformer.null_caption(1),
            timesteps=flow_timesteps(num_inference_steps, height=height, width=width, num_frames=17),
            height=height,
            width=width,
            fps=24,
            generator=generator,
            **more,
        )
