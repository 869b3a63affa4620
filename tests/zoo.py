"""Tiny models of five families with random weights, of any depth, and their captures: one for each model and depth."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from fouriercache.calls import Binder
from fouriercache.capture import Capture, capture
from fouriercache.disk_cache import CaptureCache
from fouriercache.optimize import CACHE_DIR
from fouriercache.program import Program

Call = dict[str, Any]


def build_dit(depth: int) -> tuple[nn.Module, Call]:
    from diffusers import DiTTransformer2DModel

    model: Any = DiTTransformer2DModel(
        num_attention_heads=2,
        attention_head_dim=8,
        in_channels=3,
        out_channels=3,
        num_layers=depth,
        sample_size=8,
        patch_size=2,
        num_embeds_ada_norm=10,
        norm_type="ada_norm_zero",
    )
    return model, {
        "hidden_states": torch.randn(2, 3, 8, 8),
        "timestep": torch.tensor([5, 5]),
        "class_labels": torch.tensor([1, 10]),
    }


def build_pixart(depth: int) -> tuple[nn.Module, Call]:
    from diffusers import PixArtTransformer2DModel

    model: Any = PixArtTransformer2DModel(
        sample_size=8,
        num_layers=depth,
        patch_size=2,
        attention_head_dim=8,
        num_attention_heads=2,
        caption_channels=12,
        in_channels=4,
        cross_attention_dim=16,
        out_channels=8,
        norm_type="ada_norm_single",
        use_additional_conditions=False,
    )
    return model, {
        "hidden_states": torch.randn(2, 4, 8, 8),
        "timestep": torch.tensor([5, 5]),
        "encoder_hidden_states": torch.randn(2, 6, 12),
        "encoder_attention_mask": torch.ones(2, 6),
        "added_cond_kwargs": {"resolution": None, "aspect_ratio": None},
    }


def build_flux(depth: int) -> tuple[nn.Module, Call]:
    """Build `depth` blocks of two streams, then `depth` of one."""
    from diffusers import FluxTransformer2DModel

    model: Any = FluxTransformer2DModel(
        patch_size=1,
        in_channels=4,
        num_layers=depth,
        num_single_layers=depth,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=12,
        pooled_projection_dim=12,
        axes_dims_rope=(4, 4, 8),
        guidance_embeds=True,
    )
    return model, {
        "hidden_states": torch.randn(2, 16, 4),
        "encoder_hidden_states": torch.randn(2, 6, 12),
        "pooled_projections": torch.randn(2, 12),
        "timestep": torch.tensor([0.5, 0.5]),
        "img_ids": torch.randn(16, 3),
        "txt_ids": torch.randn(6, 3),
        "guidance": torch.tensor([3.5, 3.5]),
    }


def build_wan(depth: int) -> tuple[nn.Module, Call]:
    from diffusers import WanTransformer3DModel

    model: Any = WanTransformer3DModel(
        patch_size=(1, 2, 2),
        num_attention_heads=2,
        attention_head_dim=12,
        in_channels=4,
        out_channels=4,
        text_dim=16,
        freq_dim=32,
        ffn_dim=32,
        num_layers=depth,
        cross_attn_norm=True,
        qk_norm="rms_norm_across_heads",
        rope_max_seq_len=32,
    )
    return model, {
        "hidden_states": torch.randn(2, 4, 3, 8, 8),
        "timestep": torch.tensor([5, 5]),
        "encoder_hidden_states": torch.randn(2, 6, 16),
    }


def build_sd3(depth: int) -> tuple[nn.Module, Call]:
    from diffusers import SD3Transformer2DModel

    model: Any = SD3Transformer2DModel(
        sample_size=8,
        patch_size=1,
        in_channels=4,
        num_layers=depth,
        attention_head_dim=8,
        num_attention_heads=2,
        caption_projection_dim=16,
        joint_attention_dim=12,
        pooled_projection_dim=20,
        out_channels=4,
        qk_norm="rms_norm",
    )
    return model, {
        "hidden_states": torch.randn(2, 4, 8, 8),
        "encoder_hidden_states": torch.randn(2, 6, 12),
        "pooled_projections": torch.randn(2, 20),
        "timestep": torch.tensor([5, 5]),
    }


BUILDERS: dict[str, Callable[[int], tuple[nn.Module, Call]]] = {
    "dit": build_dit,
    "pixart": build_pixart,
    "flux": build_flux,
    "wan": build_wan,
    "sd3": build_sd3,
}


@cache
def build(name: str, depth: int = 2) -> tuple[nn.Module, Call]:
    """Return a model in eval mode and one call of it, both to be left as they are."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model, call = BUILDERS[name](depth)
        for parameter in model.parameters():
            # Some families begin with gates or outputs of zero, which would hide what a branch does.
            if not parameter.any():
                nn.init.normal_(parameter, std=0.1)
    return model.eval(), call


@cache
def capture_of(name: str, depth: int = 2) -> Capture:
    """Return the capture itself, for readers alone; one of the processes that share a run captures it for all."""
    model, call = build(name, depth)
    folder = os.environ.get(CACHE_DIR)
    return capture(model, call, verify=False, cache=CaptureCache(Path(folder)) if folder else None)


def captured(name: str, depth: int = 2) -> Program:
    """Return the captured program, a copy for the caller."""
    return capture_of(name, depth).program.clone()


def inputs(name: str, depth: int = 2) -> dict[str, Tensor]:
    """Return the call's tensors by the names of the program's inputs."""
    model, call = build(name, depth)
    names = [given.name for given in capture_of(name, depth).program.inputs]
    return dict(zip(names, Binder(model).flatten(call).tensors, strict=True))
