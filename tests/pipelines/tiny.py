"""diffusers' own pipeline classes around tiny random parts, and the demo model in a pipeline: nothing is downloaded.

Text encoders are left out where a pipeline lets them: prompts are embeddings, drawn from a seed.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, cast

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.autoencoders.autoencoder_kl_wan import AutoencoderKLWan
from diffusers.models.autoencoders.vae import DecoderOutput
from diffusers.models.modeling_utils import ModelMixin
from diffusers.models.transformers.dit_transformer_2d import DiTTransformer2DModel
from diffusers.models.transformers.pixart_transformer_2d import PixArtTransformer2DModel
from diffusers.models.transformers.transformer_flux import FluxTransformer2DModel
from diffusers.models.transformers.transformer_wan import WanTransformer3DModel
from diffusers.pipelines.dit.pipeline_dit import DiTPipeline
from diffusers.pipelines.flux.pipeline_flux import FluxPipeline
from diffusers.pipelines.pixart_alpha.pipeline_pixart_alpha import PixArtAlphaPipeline
from diffusers.pipelines.wan.pipeline_wan import WanPipeline
from diffusers.schedulers.scheduling_dpmsolver_multistep import DPMSolverMultistepScheduler
from diffusers.schedulers.scheduling_flow_match_euler_discrete import FlowMatchEulerDiscreteScheduler
from torch import Tensor, nn

from fouriercache.models.demo import NULL_CLASS, load_demo_model, load_demo_scheduler

PIPELINE_NULL_CLASS = 1000
"""The label DiTPipeline stands for no class with, whatever the model."""


class Pixels(ModelMixin, ConfigMixin):  # type: ignore[misc]  # diffusers leaves its base classes untyped
    """Stands where a pipeline has its VAE, for a model that works on pixels: decoding changes nothing."""

    @register_to_config  # type: ignore[untyped-decorator]
    def __init__(self, scaling_factor: float = 1.0) -> None:
        super().__init__()
        self.register_buffer("anchor", torch.zeros(1))  # a pipeline asks its parts for dtype and device

    def decode(self, latents: Tensor) -> DecoderOutput:
        return DecoderOutput(sample=latents)


def seeded(build: Callable[..., nn.Module], seed: int = 0, **config: Any) -> Any:
    """Build a module with random weights of a seed, in eval mode."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build(**config).eval().requires_grad_(False)


def demo_dit(depth: int | None = None) -> DiTTransformer2DModel:
    """The demo model with label tables as long as DiTPipeline thinks they are; its own null class stands at 1000.

    With `depth` it has no more than its first blocks.
    """
    model = copy.deepcopy(load_demo_model())
    model.transformer_blocks = model.transformer_blocks[:depth]
    for block in model.transformer_blocks:
        embedder = cast(Any, block).norm1.emb.class_embedder
        old = embedder.embedding_table.weight
        wide = torch.zeros(PIPELINE_NULL_CLASS + 1, old.shape[1])
        wide[: len(old)] = old
        wide[PIPELINE_NULL_CLASS] = old[NULL_CLASS]
        embedder.embedding_table = nn.Embedding.from_pretrained(wide)
    return model


def dit_pipeline(depth: int | None = None) -> DiTPipeline:
    transformer, scheduler = demo_dit(depth), cast(Any, load_demo_scheduler())
    return DiTPipeline(transformer=transformer, vae=cast(Any, Pixels()), scheduler=scheduler)


def short_dit_pipeline() -> DiTPipeline:
    """Two blocks of the demo model: what a pipeline asks of a transformer does not depend on how deep that is."""
    return dit_pipeline(depth=2)


def flux_pipeline() -> FluxPipeline:
    transformer = seeded(
        FluxTransformer2DModel,
        patch_size=1,
        in_channels=4,
        num_layers=1,
        num_single_layers=2,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=32,
        pooled_projection_dim=32,
        axes_dims_rope=(4, 4, 8),
        guidance_embeds=True,
    )
    vae = seeded(
        AutoencoderKL,
        block_out_channels=(4,),
        latent_channels=1,
        norm_num_groups=1,
        use_quant_conv=False,
        use_post_quant_conv=False,
        shift_factor=0.0609,
        scaling_factor=1.5035,
    )
    absent: Any = None
    return FluxPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True),
        vae=vae,
        text_encoder=absent,
        tokenizer=absent,
        text_encoder_2=absent,
        tokenizer_2=absent,
        transformer=transformer,
    )


def pixart_pipeline(sample_size: int = 8) -> PixArtAlphaPipeline:
    """With `sample_size=128` the model also takes resolution and aspect ratio, as PixArt's 1024-pixel model does."""
    transformer = seeded(
        PixArtTransformer2DModel,
        sample_size=sample_size,
        num_layers=2,
        patch_size=2,
        attention_head_dim=8,
        num_attention_heads=3,  # a third of the width must embed the resolution
        caption_channels=16,
        in_channels=4,
        cross_attention_dim=24,
        out_channels=8,
    )
    vae = seeded(AutoencoderKL, block_out_channels=(4,), latent_channels=4, norm_num_groups=1)
    absent: Any = None
    return PixArtAlphaPipeline(
        tokenizer=absent,
        text_encoder=absent,
        vae=vae,
        transformer=transformer,
        scheduler=DPMSolverMultistepScheduler(),
    )


def wan_pipeline() -> WanPipeline:
    transformer = seeded(
        WanTransformer3DModel,
        patch_size=(1, 2, 2),
        num_attention_heads=2,
        attention_head_dim=12,
        in_channels=16,
        out_channels=16,
        text_dim=32,
        freq_dim=32,
        ffn_dim=32,
        num_layers=2,
        rope_max_seq_len=32,
    )
    vae = seeded(
        AutoencoderKLWan,
        base_dim=3,
        z_dim=16,
        dim_mult=[1, 1, 1, 1],
        num_res_blocks=1,
        temperal_downsample=[False, True, True],
    )
    absent: Any = None
    return WanPipeline(
        tokenizer=absent,
        text_encoder=absent,
        vae=vae,
        scheduler=FlowMatchEulerDiscreteScheduler(shift=7.0),
        transformer=transformer,
    )


def embeddings(seed: int, *shape: int) -> Tensor:
    """Stands for an encoded prompt: float32, standard normal."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))
