"""Denoisers of the FLUX kind: packed image tokens and text in dual-stream blocks, then in single-stream blocks."""

from __future__ import annotations

from typing import Any

import torch

from fouriercache.models.zoo.example import BATCH, Example, grid_ids, noise, ones, steps

_SIDE = 8
_TEXT = 6


def _config(depth: int) -> dict[str, Any]:
    """What most of the kind take."""
    return {
        "patch_size": 1,
        "in_channels": 4,
        "num_layers": depth,
        "num_single_layers": depth,
        "attention_head_dim": 16,
        "num_attention_heads": 2,
        "joint_attention_dim": 12,
        "axes_dims_rope": (4, 4, 8),
    }


def _inputs(width: int = 12, time: float = 0.5) -> dict[str, Any]:
    return {
        "hidden_states": noise(BATCH, _SIDE**2, 4),
        "encoder_hidden_states": noise(BATCH, _TEXT, width),
        "timestep": steps(time),
        "img_ids": grid_ids(_SIDE, _SIDE),
        "txt_ids": torch.zeros(_TEXT, 3),
    }


def _four_axes(*, each: bool = True) -> dict[str, Any]:
    """FLUX.2 and FLUX.3 number tokens in four axes, the former for `each` sample."""
    text = torch.zeros(_TEXT, 4)
    text[:, 3] = torch.arange(_TEXT)
    image = torch.zeros(_SIDE**2, 4)
    image[:, 1:3] = grid_ids(_SIDE, _SIDE)[:, 1:]
    ids = {"img_ids": image, "txt_ids": text}
    return _inputs() | {name: value.repeat(BATCH, 1, 1) if each else value for name, value in ids.items()}


def _qwen(depth: int) -> dict[str, Any]:
    return {
        "patch_size": 2,
        "in_channels": 16,
        "out_channels": 4,
        "num_layers": depth,
        "attention_head_dim": 16,
        "num_attention_heads": 2,
        "joint_attention_dim": 12,
        "axes_dims_rope": (8, 4, 4),
    }


def _qwen_inputs() -> dict[str, Any]:
    return {
        "hidden_states": noise(BATCH, _SIDE**2, 16),
        "encoder_hidden_states": noise(BATCH, _TEXT, 12),
        "encoder_hidden_states_mask": torch.ones(BATCH, _TEXT, dtype=torch.long),
        "timestep": steps(0.5),
        "img_shapes": [(1, _SIDE, _SIDE)] * BATCH,
    }


EXAMPLES = (
    Example(
        "FluxTransformer2DModel",
        lambda depth: _config(depth) | {"pooled_projection_dim": 12, "guidance_embeds": True},
        lambda: _inputs() | {"pooled_projections": noise(BATCH, 12), "guidance": steps(3.5)},
    ),
    Example(
        "Flux2Transformer2DModel",
        lambda depth: _config(depth) | {"axes_dims_rope": (4, 4, 4, 4), "timestep_guidance_channels": 32},
        lambda: _four_axes() | {"guidance": steps(3.5)},
    ),
    Example(
        "Flux3Transformer2DModel",
        lambda depth: {
            "in_channels": 4,
            "cond_in_channels": 4,
            "num_layers": depth,
            "num_single_layers": depth,
            "attention_head_dim": 16,
            "num_attention_heads": 2,
            "joint_attention_dim": 12,
            "timestep_channels": 32,
            "axes_dims_rope": (4, 4, 4, 4),
        },
        lambda: _four_axes(each=False),
    ),
    Example(
        "ChromaTransformer2DModel",
        lambda depth: (
            _config(depth) | {"approximator_num_channels": 8, "approximator_hidden_dim": 16, "approximator_layers": 1}
        ),
        _inputs,
    ),
    Example("BriaTransformer2DModel", lambda depth: _config(depth) | {"pooled_projection_dim": None}, _inputs),
    Example(
        "BriaFiboTransformer2DModel",
        lambda depth: (
            _config(depth) | {"pooled_projection_dim": None, "joint_attention_dim": 16, "text_encoder_dim": 8}
        ),
        lambda: _inputs(16) | {"text_encoder_layers": [noise(BATCH, _TEXT, 8) for _ in range(4)]},
    ),
    Example("OvisImageTransformer2DModel", lambda depth: _config(depth) | {"out_channels": 4}, _inputs),
    Example(
        "LongCatImageTransformer2DModel",
        lambda depth: _config(depth) | {"pooled_projection_dim": 12},
        lambda: _inputs() | {"guidance": steps(3.5)},
    ),
    Example("QwenImageTransformer2DModel", _qwen, _qwen_inputs),
    Example(
        "NucleusMoEImageTransformer2DModel",
        lambda depth: _qwen(depth) | {"moe_enabled": False, "capacity_factors": [8.0] * depth},
        _qwen_inputs,
    ),
    Example(
        "SD3Transformer2DModel",
        lambda depth: {
            "sample_size": 8,
            "patch_size": 1,
            "in_channels": 4,
            "num_layers": depth,
            "attention_head_dim": 8,
            "num_attention_heads": 2,
            "caption_projection_dim": 16,
            "joint_attention_dim": 12,
            "pooled_projection_dim": 20,
            "out_channels": 4,
            "qk_norm": "rms_norm",
            "dual_attention_layers": (0,),
        },
        lambda: {
            "hidden_states": noise(BATCH, 4, 8, 8),
            "encoder_hidden_states": noise(BATCH, 6, 12),
            "pooled_projections": noise(BATCH, 20),
            "timestep": steps(),
        },
    ),
    Example(
        "AuraFlowTransformer2DModel",
        lambda depth: {
            "sample_size": 16,
            "patch_size": 2,
            "in_channels": 4,
            "num_mmdit_layers": depth,
            "num_single_dit_layers": depth,
            "attention_head_dim": 8,
            "num_attention_heads": 2,
            "caption_projection_dim": 16,
            "joint_attention_dim": 12,
            "out_channels": 4,
            "pos_embed_max_size": 64,
        },
        lambda: {
            "hidden_states": noise(BATCH, 4, 16, 16),
            "encoder_hidden_states": noise(BATCH, 6, 12),
            "timestep": steps(0.5),
        },
    ),
    Example(
        "HiDreamImageTransformer2DModel",
        lambda depth: {
            "patch_size": 2,
            "in_channels": 4,
            "out_channels": 4,
            "num_layers": depth,
            "num_single_layers": depth,
            "attention_head_dim": 8,
            "num_attention_heads": 4,
            "caption_channels": [8, 4],
            "text_emb_dim": 8,
            "num_routed_experts": 2,
            "num_activated_experts": 2,
            "axes_dims_rope": (4, 2, 2),
            "max_resolution": (32, 32),
            "llama_layers": tuple(range(2 * depth)),
            "force_inference_output": True,
        },
        lambda: {
            "hidden_states": noise(BATCH, 4, 16, 16),
            "timesteps": steps(),
            "encoder_hidden_states_t5": noise(BATCH, _TEXT, 8),
            "encoder_hidden_states_llama3": noise(4, BATCH, _TEXT, 4),
            "pooled_embeds": noise(BATCH, 8),
        },
    ),
    Example(
        "HunyuanImageTransformer2DModel",
        lambda depth: {
            "in_channels": 4,
            "out_channels": 4,
            "num_attention_heads": 2,
            "attention_head_dim": 8,
            "num_layers": depth,
            "num_single_layers": depth,
            "num_refiner_layers": 1,
            "mlp_ratio": 2.0,
            "guidance_embeds": True,
            "text_embed_dim": 12,
            "text_embed_2_dim": 8,
            "rope_axes_dim": (4, 4),
        },
        lambda: {
            "hidden_states": noise(BATCH, 4, 8, 8),
            "timestep": steps(),
            "encoder_hidden_states": noise(BATCH, _TEXT, 12),
            "encoder_attention_mask": ones(BATCH, _TEXT),
            "encoder_hidden_states_2": noise(BATCH, 4, 8),
            "encoder_attention_mask_2": ones(BATCH, 4),
            "guidance": steps(3500.0),
        },
    ),
)
