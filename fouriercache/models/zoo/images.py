"""Denoisers of images on a square of latents: cross-attention, in-context text, one stream or a U of skips."""

from __future__ import annotations

from typing import Any

import torch

from fouriercache.models.zoo.example import BATCH, Example, noise, ones, steps

_TEXT = 6


def _latents(width: int, channels: int = 4, side: int = 16) -> dict[str, Any]:
    """Latents of 64 tokens after patches of 2 x 2, a timestep, a text of `width`."""
    return {
        "hidden_states": noise(BATCH, channels, side, side),
        "timestep": steps(),
        "encoder_hidden_states": noise(BATCH, _TEXT, width),
    }


def _sizes() -> dict[str, Any]:
    """What the pictures' sizes are, as CogView is told."""
    size = torch.tensor([[128.0, 128.0]] * BATCH)
    return {"original_size": size, "target_size": size.clone(), "crop_coords": torch.zeros(BATCH, 2)}


EXAMPLES = (
    Example(
        "DiTTransformer2DModel",
        lambda depth: {
            "num_attention_heads": 2,
            "attention_head_dim": 8,
            "in_channels": 3,
            "out_channels": 3,
            "num_layers": depth,
            "sample_size": 16,
            "patch_size": 2,
            "num_embeds_ada_norm": 10,
            "norm_type": "ada_norm_zero",
        },
        lambda: {
            "hidden_states": noise(BATCH, 3, 16, 16),
            "timestep": steps(),
            "class_labels": torch.tensor([1, 10]),
        },
    ),
    Example(
        "PixArtTransformer2DModel",
        lambda depth: {
            "sample_size": 16,
            "num_layers": depth,
            "patch_size": 2,
            "attention_head_dim": 8,
            "num_attention_heads": 2,
            "caption_channels": 12,
            "in_channels": 4,
            "cross_attention_dim": 16,
            "out_channels": 8,
            "norm_type": "ada_norm_single",
            "use_additional_conditions": False,
        },
        lambda: (
            _latents(12)
            | {
                "encoder_attention_mask": ones(BATCH, _TEXT),
                "added_cond_kwargs": {"resolution": None, "aspect_ratio": None},
            }
        ),
    ),
    Example(
        "HunyuanDiT2DModel",
        lambda depth: {
            "sample_size": 16,
            "patch_size": 2,
            "in_channels": 4,
            "num_layers": 2 * depth,
            "attention_head_dim": 8,
            "num_attention_heads": 2,
            "cross_attention_dim": 8,
            "cross_attention_dim_t5": 16,
            "pooled_projection_dim": 4,
            "hidden_size": 16,
            "text_len": _TEXT,
            "text_len_t5": _TEXT,
        },
        lambda: (
            _latents(8)
            | {
                "text_embedding_mask": ones(BATCH, _TEXT),
                "encoder_hidden_states_t5": noise(BATCH, _TEXT, 16),
                "text_embedding_mask_t5": ones(BATCH, _TEXT),
                "image_meta_size": torch.tensor([[1024.0, 1024.0, 16.0, 16.0, 0.0, 0.0]] * BATCH),
                "style": torch.zeros(BATCH, dtype=torch.int64),
                "image_rotary_emb": [noise(64, 8), noise(64, 8)],
            }
        ),
    ),
    Example(
        "SanaTransformer2DModel",
        lambda depth: {
            "patch_size": 1,
            "in_channels": 4,
            "out_channels": 4,
            "num_layers": depth,
            "attention_head_dim": 8,
            "num_attention_heads": 2,
            "num_cross_attention_heads": 2,
            "cross_attention_head_dim": 8,
            "cross_attention_dim": 16,
            "caption_channels": 12,
            "sample_size": 8,
        },
        lambda: _latents(12, side=8),
    ),
    Example(
        "LuminaNextDiT2DModel",
        lambda depth: {
            "sample_size": 16,
            "patch_size": 2,
            "in_channels": 4,
            "hidden_size": 24,
            "num_layers": depth,
            "num_attention_heads": 3,
            "num_kv_heads": 1,
            "multiple_of": 16,
            "learn_sigma": False,
            "cross_attention_dim": 12,
        },
        lambda: (
            _latents(12)
            | {
                "timestep": steps(0.5),
                "encoder_mask": ones(BATCH, _TEXT),
                "image_rotary_emb": noise(384, 384, 4),
                "cross_attention_kwargs": {},
            }
        ),
    ),
    Example(
        "Lumina2Transformer2DModel",
        lambda depth: {
            "sample_size": 16,
            "patch_size": 2,
            "in_channels": 4,
            "hidden_size": 24,
            "num_layers": depth,
            "num_refiner_layers": 1,
            "num_attention_heads": 3,
            "num_kv_heads": 1,
            "multiple_of": 2,
            "axes_dim_rope": (4, 2, 2),
            "axes_lens": (128, 128, 128),
            "cap_feat_dim": 12,
        },
        lambda: (
            _latents(12)
            | {"timestep": steps(0.5), "encoder_attention_mask": torch.ones(BATCH, _TEXT, dtype=torch.bool)}
        ),
    ),
    Example(
        "CogView3PlusTransformer2DModel",
        lambda depth: {
            "patch_size": 2,
            "in_channels": 4,
            "num_layers": depth,
            "attention_head_dim": 8,
            "num_attention_heads": 2,
            "out_channels": 4,
            "text_embed_dim": 12,
            "time_embed_dim": 8,
            "condition_dim": 2,
            "pos_embed_max_size": 16,
            "sample_size": 16,
        },
        lambda: _latents(12) | _sizes(),
    ),
    Example(
        "CogView4Transformer2DModel",
        lambda depth: {
            "patch_size": 2,
            "in_channels": 4,
            "num_layers": depth,
            "attention_head_dim": 8,
            "num_attention_heads": 2,
            "out_channels": 4,
            "text_embed_dim": 12,
            "time_embed_dim": 8,
            "condition_dim": 4,
        },
        lambda: _latents(12) | _sizes(),
    ),
    Example(
        "GlmImageTransformer2DModel",
        lambda depth: {
            "patch_size": 2,
            "in_channels": 4,
            "out_channels": 4,
            "num_layers": depth,
            "attention_head_dim": 8,
            "num_attention_heads": 2,
            "text_embed_dim": 12,
            "time_embed_dim": 16,
            "condition_dim": 8,
            "prior_vq_quantizer_codebook_size": 64,
        },
        lambda: (
            _latents(12)
            | {
                "prior_token_id": torch.arange(64).repeat(BATCH, 1),
                "prior_token_drop": torch.zeros(BATCH, 64, dtype=torch.bool),
                "target_size": torch.tensor([[16.0, 16.0]] * BATCH),
                "crop_coords": torch.zeros(BATCH, 2),
            }
        ),
    ),
    Example(
        "PRXTransformer2DModel",
        lambda depth: {
            "in_channels": 4,
            "patch_size": 2,
            "context_in_dim": 12,
            "hidden_size": 16,
            "num_heads": 2,
            "depth": depth,
            "axes_dim": [4, 4],
        },
        lambda: _latents(12) | {"timestep": steps(0.5)},
    ),
    Example(
        "AllegroTransformer3DModel",
        lambda depth: {
            "num_attention_heads": 2,
            "attention_head_dim": 12,
            "in_channels": 4,
            "out_channels": 4,
            "num_layers": depth,
            "cross_attention_dim": 24,
            "sample_width": 8,
            "sample_height": 8,
            "sample_frames": 2,
            "caption_channels": 12,
        },
        lambda: _latents(12) | {"hidden_states": noise(BATCH, 4, 2, 16, 16)},
    ),
)
