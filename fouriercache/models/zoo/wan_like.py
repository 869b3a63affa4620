"""Wan, and the denoisers that were made of it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from fouriercache.models.zoo.example import BATCH, Example, noise, ones, steps

_TEXT = 6


def _latents() -> dict[str, Any]:
    return {
        "hidden_states": noise(BATCH, 4, 2, 8, 8),
        "timestep": steps(),
        "encoder_hidden_states": noise(BATCH, _TEXT, 12),
    }


def _frames_first() -> dict[str, Any]:
    return _latents() | {"hidden_states": noise(BATCH, 2, 4, 8, 8)}


def _each_frame(value: float) -> Tensor:
    """A timestep for each of two frames, float32 [batch, 2]."""
    return torch.full((BATCH, 2), value)


def _wan(depth: int) -> dict[str, Any]:
    """What they all take."""
    return {
        "patch_size": (1, 2, 2),
        "num_attention_heads": 2,
        "attention_head_dim": 12,
        "in_channels": 4,
        "out_channels": 4,
        "text_dim": 12,
        "freq_dim": 32,
        "ffn_dim": 32,
        "num_layers": depth,
        "cross_attn_norm": True,
        "rope_max_seq_len": 32,
    }


def _animate2() -> dict[str, Any]:
    """One segment of the generation, for two blocks: what is read and written between segments is an object."""
    from diffusers.models.transformers.transformer_wan_animate_2 import WanAnimate2KVCache

    return {
        "hidden_states": [noise(4, 2, 4, 4)],
        "timestep": steps(batch=1),
        "encoder_hidden_states": [noise(_TEXT, 12)],
        "condition_latents": [noise(6, 2, 4, 4)],
        "kv_cache": WanAnimate2KVCache(2),
        "kv_cache_mode": "extract",
        "seq_len": 8,
        "offset_grid_sizes": torch.tensor([[2, 2, 2]]),
    }


EXAMPLES = (
    Example(
        "WanTransformer3DModel", lambda depth: _wan(depth) | {"qk_norm": "rms_norm_across_heads"}, lambda: _latents()
    ),
    Example(
        "ChronoEditTransformer3DModel",
        lambda depth: _wan(depth) | {"qk_norm": "rms_norm_across_heads", "rope_temporal_skip_len": 8},
        lambda: _latents(),
    ),
    Example("SkyReelsV2Transformer3DModel", _wan, lambda: _latents()),
    Example(
        "WanVACETransformer3DModel",
        lambda depth: _wan(2 * depth) | {"vace_layers": [0, 2][:depth], "vace_in_channels": 8},
        lambda: (
            _latents()
            | {"hidden_states": noise(BATCH, 4, 2, 16, 16), "control_hidden_states": noise(BATCH, 8, 2, 16, 16)}
        ),
    ),
    Example(
        "AnyFlowTransformer3DModel",
        lambda depth: _wan(depth) | {"gate_value": 0.25, "deltatime_type": "r"},
        lambda: _frames_first() | {"timestep": _each_frame(500.0), "r_timestep": _each_frame(250.0)},
    ),
    Example(
        "AnyFlowFARTransformer3DModel",
        lambda depth: (
            _wan(depth)
            | {"gate_value": 0.25, "deltatime_type": "r", "compressed_patch_size": (1, 4, 4), "full_chunk_limit": 3}
        ),
        lambda: (
            _frames_first()
            | {
                "timestep": _each_frame(500.0),
                "r_timestep": _each_frame(250.0),
                "chunk_partition": [1, 1],
            }
        ),
    ),
    Example(
        "WanAnimateTransformer3DModel",
        lambda depth: (
            _wan(depth)
            | {
                "in_channels": 12,
                "latent_channels": 4,
                "image_dim": 16,
                "motion_encoder_channel_sizes": {"4": 16, "8": 16, "16": 16},
                "motion_encoder_size": 16,
                "motion_style_dim": 8,
                "motion_dim": 4,
                "motion_encoder_dim": 16,
                "face_encoder_hidden_dim": 16,
                "face_encoder_num_heads": 2,
                "inject_face_latents_blocks": 2,
            }
        ),
        lambda: {
            "hidden_states": noise(1, 12, 3, 8, 8),
            "timestep": steps(batch=1),
            "encoder_hidden_states": noise(1, _TEXT, 12),
            "encoder_hidden_states_image": noise(1, 4, 16),
            "pose_hidden_states": noise(1, 4, 2, 8, 8),
            "face_pixel_values": noise(1, 3, 5, 16, 16),
        },
    ),
    Example(
        "HeliosTransformer3DModel",
        lambda depth: (
            {name: value for name, value in _wan(depth).items() if name != "rope_max_seq_len"} | {"rope_dim": (4, 4, 4)}
        ),
        lambda: (
            _latents()
            | {
                "indices_hidden_states": torch.arange(2.0).repeat(BATCH, 1) + 6,
                "indices_latents_history_short": ones(BATCH, 1) * 5,
                "indices_latents_history_mid": ones(BATCH, 2) * 4,
                "indices_latents_history_long": torch.arange(4.0).repeat(BATCH, 1),
                "latents_history_short": noise(BATCH, 4, 1, 8, 8),
                "latents_history_mid": noise(BATCH, 4, 2, 8, 8),
                "latents_history_long": noise(BATCH, 4, 4, 8, 8),
            }
        ),
    ),
    Example(
        "WanAnimate2Transformer3DModel",
        lambda depth: {
            "patch_size": (1, 2, 2),
            "text_len": 16,
            "in_dim": 10,
            "dim": 64,
            "ffn_dim": 64,
            "freq_dim": 16,
            "text_dim": 12,
            "out_dim": 4,
            "num_heads": 4,
            "num_layers": depth,
            "use_img_emb": False,
        },
        _animate2,
    ),
)
