"""Denoisers of videos: T x H x W tokens, with text across or beside."""

from __future__ import annotations

from typing import Any

import torch

from fouriercache.models.zoo.example import BATCH, Example, noise, ones, steps

_TEXT = 6


def _latents(width: int, channels: int = 4, frames: int = 2, side: int = 8, value: float = 500.0) -> dict[str, Any]:
    """Latents with their frames behind the channels, a timestep, a text of `width`."""
    return {
        "hidden_states": noise(BATCH, channels, frames, side, side),
        "timestep": steps(value),
        "encoder_hidden_states": noise(BATCH, _TEXT, width),
    }


def _frames_first(width: int) -> dict[str, Any]:
    return _latents(width) | {"hidden_states": noise(BATCH, 2, 4, 8, 8)}


def _hunyuan(depth: int) -> dict[str, Any]:
    """HunyuanVideo and what was made of it."""
    return {
        "in_channels": 4,
        "out_channels": 4,
        "num_attention_heads": 2,
        "attention_head_dim": 12,
        "num_layers": depth,
        "num_single_layers": depth,
        "num_refiner_layers": 1,
        "mlp_ratio": 2.0,
        "patch_size": 2,
        "patch_size_t": 1,
        "guidance_embeds": True,
        "text_embed_dim": 12,
        "pooled_projection_dim": 8,
        "rope_axes_dim": (4, 4, 4),
    }


def _hunyuan_inputs() -> dict[str, Any]:
    return _latents(12) | {
        "encoder_attention_mask": ones(BATCH, _TEXT),
        "pooled_projections": noise(BATCH, 8),
        "guidance": steps(6000.0),
    }


def _cogvideox(depth: int) -> dict[str, Any]:
    return {
        "num_attention_heads": 2,
        "attention_head_dim": 8,
        "in_channels": 4,
        "out_channels": 4,
        "time_embed_dim": 2,
        "text_embed_dim": 12,
        "num_layers": depth,
        "sample_width": 8,
        "sample_height": 8,
        "sample_frames": 5,
        "patch_size": 2,
        "temporal_compression_ratio": 4,
        "max_text_seq_length": _TEXT,
    }


EXAMPLES = (
    Example("HunyuanVideoTransformer3DModel", _hunyuan, _hunyuan_inputs),
    Example(
        "HunyuanVideoFramepackTransformer3DModel",
        lambda depth: _hunyuan(depth) | {"has_image_proj": True, "image_proj_dim": 16, "has_clean_x_embedder": True},
        lambda: (
            _hunyuan_inputs()
            | {
                "image_embeds": noise(BATCH, 4, 16),
                "indices_latents": torch.arange(2.0) + 6,
                "latents_clean": noise(BATCH, 4, 2, 8, 8),
                "indices_latents_clean": torch.arange(2.0),
                "latents_history_2x": noise(BATCH, 4, 2, 8, 8),
                "indices_latents_history_2x": torch.arange(2.0) + 2,
                "latents_history_4x": noise(BATCH, 4, 4, 8, 8),
                "indices_latents_history_4x": torch.arange(4.0) + 2,
            }
        ),
    ),
    Example(
        "HunyuanVideo15Transformer3DModel",
        lambda depth: {
            "in_channels": 4,
            "out_channels": 4,
            "num_attention_heads": 2,
            "attention_head_dim": 8,
            "num_layers": depth,
            "num_refiner_layers": 1,
            "mlp_ratio": 2.0,
            "patch_size": 1,
            "patch_size_t": 1,
            "text_embed_dim": 12,
            "text_embed_2_dim": 8,
            "image_embed_dim": 10,
            "rope_axes_dim": (2, 2, 4),
            "target_size": 8,
        },
        lambda: (
            _latents(12)
            | {
                "encoder_attention_mask": ones(BATCH, _TEXT),
                "encoder_hidden_states_2": noise(BATCH, 4, 8),
                "encoder_attention_mask_2": ones(BATCH, 4),
                "image_embeds": torch.zeros(BATCH, 3, 10),
            }
        ),
    ),
    Example("CogVideoXTransformer3DModel", _cogvideox, lambda: _frames_first(12)),
    Example(
        "ConsisIDTransformer3DModel",
        lambda depth: (
            _cogvideox(depth)
            | {
                "cross_attn_interval": 1,
                "is_train_face": True,
                "cross_attn_dim_head": 4,
                "cross_attn_num_heads": 1,
                "LFE_id_dim": 2,
                "LFE_vit_dim": 2,
                "LFE_depth": 5,
                "LFE_dim_head": 8,
                "LFE_num_heads": 2,
                "LFE_num_id_token": 1,
                "LFE_num_querie": 1,
                "LFE_output_dim": 10,
                "LFE_ff_mult": 1,
                "LFE_num_scale": 1,
            }
        ),
        lambda: _frames_first(12) | {"id_cond": noise(BATCH, 2), "id_vit_hidden": [noise(BATCH, 2, 2)]},
    ),
    Example(
        "CosmosTransformer3DModel",
        lambda depth: {
            "in_channels": 4,
            "out_channels": 4,
            "num_attention_heads": 2,
            "attention_head_dim": 12,
            "num_layers": depth,
            "mlp_ratio": 2,
            "text_embed_dim": 12,
            "adaln_lora_dim": 4,
            "max_size": (4, 32, 32),
            "concat_padding_mask": False,  # that would need torchvision
            "extra_pos_embed_type": "learnable",
        },
        lambda: _latents(12) | {"fps": 30},
    ),
    Example(
        "EasyAnimateTransformer3DModel",
        lambda depth: {
            "attention_head_dim": 16,
            "num_attention_heads": 2,
            "in_channels": 4,
            "mmdit_layers": depth,
            "num_layers": depth,
            "out_channels": 4,
            "patch_size": 2,
            "text_embed_dim": 12,
            "time_embed_dim": 8,
        },
        lambda: _latents(12, side=16),
    ),
    Example(
        "LatteTransformer3DModel",
        lambda depth: {
            "sample_size": 8,
            "num_layers": depth,
            "patch_size": 2,
            "attention_head_dim": 8,
            "num_attention_heads": 2,
            "caption_channels": 12,
            "in_channels": 4,
            "cross_attention_dim": 16,
            "out_channels": 8,
            "attention_bias": True,
            "norm_type": "ada_norm_single",
            "norm_elementwise_affine": False,
            "norm_eps": 1e-6,
            "video_length": 4,
        },
        lambda: _latents(12, frames=4),
    ),
    Example(
        "LTXVideoTransformer3DModel",
        lambda depth: {
            "in_channels": 4,
            "out_channels": 4,
            "num_attention_heads": 2,
            "attention_head_dim": 8,
            "cross_attention_dim": 16,
            "num_layers": depth,
            "caption_channels": 12,
        },
        lambda: {
            "hidden_states": noise(BATCH, 64, 4),
            "encoder_hidden_states": noise(BATCH, _TEXT, 12),
            "timestep": steps(),
            "encoder_attention_mask": torch.ones(BATCH, _TEXT, dtype=torch.bool),
            "num_frames": 2,
            "height": 4,
            "width": 8,
        },
    ),
    Example(
        "MochiTransformer3DModel",
        lambda depth: {
            "num_attention_heads": 2,
            "attention_head_dim": 8,
            "num_layers": depth,
            "pooled_projection_dim": 16,
            "in_channels": 4,
            "text_embed_dim": 16,
            "time_embed_dim": 4,
            "max_sequence_length": _TEXT,
        },
        lambda: _latents(16) | {"encoder_attention_mask": torch.ones(BATCH, _TEXT, dtype=torch.bool)},
    ),
    Example(
        "MotifVideoTransformer3DModel",
        lambda depth: {
            "in_channels": 9,
            "out_channels": 4,
            "num_attention_heads": 2,
            "attention_head_dim": 12,
            "num_layers": depth,
            "num_single_layers": depth,
            "num_decoder_layers": depth,
            "patch_size": 2,
            "text_embed_dim": 12,
            "image_embed_dim": 4,
            "rope_axes_dim": (4, 4, 4),
        },
        lambda: _latents(12, channels=9),
    ),
    Example(
        "SanaVideoTransformer3DModel",
        lambda depth: {
            "in_channels": 4,
            "out_channels": 4,
            "num_attention_heads": 2,
            "attention_head_dim": 12,
            "num_layers": depth,
            "num_cross_attention_heads": 2,
            "cross_attention_head_dim": 12,
            "cross_attention_dim": 24,
            "caption_channels": 12,
            "sample_size": 8,
            "rope_max_seq_len": 32,
        },
        lambda: _latents(12),
    ),
)
