"""Denoisers that lay text and image out as one sequence, or take lists of samples."""

from __future__ import annotations

from typing import Any

import torch

from fouriercache.models.zoo.example import BATCH, Example, grid_ids, noise, ones, steps

_TEXT = 6
_SIDE = 8


def _ideogram_inputs() -> dict[str, Any]:
    """One sequence: text (tag 3), then the image (tag 2), whose positions are far away from the text's."""
    length = _TEXT + _SIDE**2
    image, text = noise(BATCH, length, 16), noise(BATCH, length, 24)
    image[:, :_TEXT], text[:, _TEXT:] = 0, 0
    positions = torch.zeros(BATCH, length, 3, dtype=torch.long)
    positions[:, :_TEXT] = torch.arange(_TEXT)[:, None]
    positions[:, _TEXT:] = grid_ids(_SIDE, _SIDE).long() + 65536
    tags = torch.full((BATCH, length), 2)
    tags[:, :_TEXT] = 3
    return {
        "hidden_states": image,
        "timestep": steps(0.5),
        "encoder_hidden_states": text,
        "position_ids": positions,
        "segment_ids": torch.ones(BATCH, length, dtype=torch.long),
        "indicator": tags,
    }


def _krea_inputs() -> dict[str, Any]:
    mask = torch.ones(BATCH, _TEXT, dtype=torch.bool)
    mask[:, -1] = False
    return {
        "hidden_states": noise(BATCH, _SIDE**2, 16),
        "encoder_hidden_states": noise(BATCH, _TEXT, 3, 16),
        "timestep": steps(0.5),
        "position_ids": torch.cat([torch.zeros(_TEXT, 3), grid_ids(_SIDE, _SIDE)]),
        "encoder_attention_mask": mask,
    }


def _omnigen_inputs() -> dict[str, Any]:
    """Text and a shown image of 16 tokens, then the timestep and 64 tokens of the latents."""
    length = 24 + 1 + 64
    return {
        "hidden_states": noise(BATCH, 4, 16, 16),
        "timestep": steps(0.5),
        "input_ids": torch.arange(24).repeat(BATCH, 1) % 10,
        "input_img_latents": [noise(1, 4, 8, 8)],
        "input_image_sizes": {0: [[0, 16]]},
        "attention_mask": ones(BATCH, length, length),
        "position_ids": torch.arange(length).repeat(BATCH, 1),
    }


def _qwen_inputs() -> dict[str, Any]:
    """The vision-language sequence has a slot for each 2 x 2 of the image's tokens, behind the text."""
    slots = _SIDE**2 // 4
    return {
        "hidden_states": noise(BATCH, _SIDE**2, 4),
        "encoder_hidden_states": noise(BATCH, _TEXT, 12),
        "timestep": steps(0.5),
        "img_shapes": [[(1, _SIDE, _SIDE)]] * BATCH,
        "img_mask": torch.cat([torch.zeros(BATCH, _TEXT), torch.ones(BATCH, slots)], 1).bool(),
        "encoder_hidden_states_mask": torch.ones(BATCH, _TEXT, dtype=torch.bool),
    }


EXAMPLES = (
    Example(
        "ZImageTransformer2DModel",
        lambda depth: {
            "all_patch_size": (2,),
            "all_f_patch_size": (1,),
            "in_channels": 4,
            "dim": 32,
            "n_layers": depth,
            "n_refiner_layers": 1,
            "n_heads": 2,
            "n_kv_heads": 2,
            "cap_feat_dim": 12,
            "axes_dims": [8, 4, 4],
            "axes_lens": [256, 32, 32],
        },
        lambda: {
            "x": [noise(4, 1, 16, 16) for _ in range(BATCH)],
            "t": steps(0.5),
            "cap_feats": [noise(12, 12), noise(20, 12)],
        },
    ),
    Example(
        "BriaFibo2Transformer2DModel",
        lambda depth: {
            "in_channels": 4,
            "dim": 32,
            "n_layers": depth,
            "n_refiner_layers": 1,
            "n_heads": 2,
            "cap_feat_dim": 12,
            "injection_layer_ids": (0,),
            "perceiver_num_layers": 1,
            "min_num_gist_tokens": 4,
            "max_num_gist_tokens": 8,
            "gist_step": 4,
            "gist_min_text_len": 4,
            "gist_max_text_len": 16,
            "axes_dims": (8, 4, 4),
            "axes_lens": (256, 32, 32),
        },
        lambda: {
            "hidden_states": noise(BATCH, 4, 16, 16),
            "timestep": steps(0.5),
            "encoder_hidden_states": noise(BATCH, 2, _TEXT, 12),
        },
    ),
    Example(
        "ErnieImageTransformer2DModel",
        lambda depth: {
            "hidden_size": 32,
            "num_attention_heads": 2,
            "num_layers": depth,
            "ffn_hidden_size": 32,
            "in_channels": 4,
            "out_channels": 4,
            "patch_size": 1,
            "text_in_dim": 12,
            "rope_axes_dim": (8, 4, 4),
        },
        lambda: {
            "hidden_states": noise(BATCH, 4, 8, 8),
            "timestep": steps(),
            "text_bth": noise(BATCH, _TEXT, 12),
            "text_lens": torch.tensor([_TEXT, _TEXT - 2]),
        },
    ),
    Example(
        "Ideogram4Transformer2DModel",
        lambda depth: {
            "in_channels": 16,
            "num_layers": depth,
            "attention_head_dim": 8,
            "num_attention_heads": 4,
            "intermediate_size": 32,
            "adaln_dim": 16,
            "llm_features_dim": 24,
            "rope_theta": 10000,
            "mrope_section": (2, 1, 1),
        },
        _ideogram_inputs,
    ),
    Example(
        "Krea2Transformer2DModel",
        lambda depth: {
            "in_channels": 16,
            "num_layers": depth,
            "attention_head_dim": 8,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "intermediate_size": 32,
            "timestep_embed_dim": 8,
            "text_hidden_dim": 16,
            "num_text_layers": 3,
            "text_num_attention_heads": 2,
            "text_num_key_value_heads": 1,
            "text_intermediate_size": 16,
            "num_layerwise_text_blocks": 1,
            "num_refiner_text_blocks": 1,
            "axes_dims_rope": (4, 2, 2),
        },
        _krea_inputs,
    ),
    Example(
        "OmniGenTransformer2DModel",
        lambda depth: {
            "hidden_size": 16,
            "num_attention_heads": 4,
            "num_key_value_heads": 4,
            "intermediate_size": 32,
            "num_layers": depth,
            "pad_token_id": 0,
            "vocab_size": 32,
            "in_channels": 4,
            "time_step_dim": 4,
            "rope_scaling": {"long_factor": [1, 2], "short_factor": [1, 2]},
        },
        _omnigen_inputs,
    ),
    Example(
        "QwenImage21Transformer2DModel",
        lambda depth: {
            "in_channels": 4,
            "out_channels": 4,
            "num_layers": depth,
            "attention_head_dim": 16,
            "num_attention_heads": 2,
            "context_in_dim": 12,
            "axes_dims_rope": (8, 4, 4),
        },
        _qwen_inputs,
    ),
    Example(
        "JoyImageEditTransformer3DModel",
        lambda depth: {
            "in_channels": 4,
            "hidden_size": 32,
            "num_attention_heads": 2,
            "text_dim": 12,
            "num_layers": depth,
            "rope_dim_list": [4, 6, 6],
        },
        lambda: {
            "hidden_states": noise(BATCH, 4, 1, 16, 16),
            "timestep": steps(),
            "encoder_hidden_states": noise(BATCH, _TEXT, 12),
        },
    ),
    Example(
        "JoyImageEditPlusTransformer3DModel",
        lambda depth: {
            "in_channels": 4,
            "hidden_size": 32,
            "num_attention_heads": 2,
            "text_dim": 12,
            "num_layers": depth,
            "rope_dim_list": [4, 6, 6],
        },
        lambda: {
            "hidden_states": noise(BATCH, 32, 4, 1, 2, 2),
            "timestep": steps(),
            "encoder_hidden_states": noise(BATCH, _TEXT, 12),
            "shape_list": [[(1, 4, 4), (1, 4, 4)]] * BATCH,
        },
    ),
)
