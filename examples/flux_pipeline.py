"""FluxPipeline with FORA: where the two lines go, shown on a FLUX so small that it runs anywhere.

    python examples/flux_pipeline.py --steps 28 --interval 3

The weights are random, so the images show nothing; with FluxPipeline.from_pretrained(...) in `build_pipeline` the rest
stays as it is. Nothing is downloaded.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

import torch
from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler, FluxPipeline, FluxTransformer2DModel

import fouriercache as fc


def build_pipeline() -> FluxPipeline:
    """Build a FLUX of 2 + 2 blocks; without text encoders, so that prompts are given as embeddings."""
    torch.manual_seed(0)
    transformer: Any = FluxTransformer2DModel(
        in_channels=4,
        num_layers=2,
        num_single_layers=2,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=32,
        pooled_projection_dim=32,
        axes_dims_rope=(4, 4, 8),
        guidance_embeds=True,
    )
    vae: Any = AutoencoderKL(block_out_channels=(4,), latent_channels=1, norm_num_groups=1, shift_factor=0.06)
    absent: Any = None
    return FluxPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True),
        vae=vae.eval(),
        text_encoder=absent,
        tokenizer=absent,
        text_encoder_2=absent,
        tokenizer_2=absent,
        transformer=transformer.eval(),
    )


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=28)
    parser.add_argument("--interval", type=int, default=3)
    given = parser.parse_args(arguments)

    pipe: Any = build_pipeline()
    pipe.set_progress_bar_config(disable=True)
    prompt = {"prompt_embeds": torch.randn(1, 6, 32), "pooled_prompt_embeds": torch.randn(1, 32)}

    def sample() -> torch.Tensor:
        """Return float32 [1, 3, 16, 16] in [0, 1]."""
        images: torch.Tensor = pipe(
            **prompt,
            height=16,
            width=16,
            num_inference_steps=given.steps,
            generator=torch.Generator().manual_seed(0),
            output_type="pt",
        ).images
        return images

    uncached = sample()

    # FLUX packs its latents into a sequence, which hides the token grid; fast.report says so, and caching needs none.
    fast = pipe.transformer = fc.optimize(pipe.transformer, fc.FORA(interval=given.interval), num_steps=given.steps)

    cached = sample()

    kinds = [site.kind for site in fast.report.sites]
    print(f"sites cached      {', '.join(f'{kinds.count(kind)} {kind}' for kind in dict.fromkeys(kinds))}")
    print(f"steps computed    {len(fast.schedule or ())} of {given.steps}")
    print(f"relative error    {float((cached - uncached).norm() / uncached.norm()):.2g} to the uncached image")
    print(f"cache             {fast.cache_bytes / 2**10:.1f} KiB")


if __name__ == "__main__":
    main()
