"""Denoisers of more than pictures: video with sound, camera paths, proteins, embeddings."""

from __future__ import annotations

from typing import Any

import torch

from fouriercache.models.zoo.example import BATCH, Example, noise, ones, steps

_TEXT = 6


def _minimax_inputs() -> dict[str, Any]:
    """One sequence of text, audio and video; tags say which is which, and audio has a timestep of its own."""
    audio, video = 4, 64
    length = _TEXT + audio + video
    tags, stamps = torch.zeros(length, dtype=torch.long), torch.zeros(length, dtype=torch.long)
    tags[:_TEXT], tags[_TEXT : _TEXT + audio], stamps[_TEXT : _TEXT + audio] = 1, 2, 1
    positions = torch.zeros(length, 3)
    positions[:, 0] = torch.arange(length)
    return {
        "hidden_states": noise(BATCH, video, 16),
        "audio_hidden_states": noise(BATCH, audio, 6),
        "encoder_hidden_states": noise(BATCH, _TEXT, 12),
        "timestep": torch.tensor([0.7, 0.3]),
        "timestep_indices": stamps,
        "token_tags": tags,
        "position_ids": positions,
        "video_indices": torch.arange(_TEXT + audio, length),
        "audio_indices": torch.arange(_TEXT, _TEXT + audio),
        "text_indices": torch.arange(_TEXT),
    }


def _cosmos3_inputs() -> dict[str, Any]:
    """Two words, then 16 tokens of one frame."""
    tokens = torch.arange(2, 18)
    return {
        "input_ids": torch.tensor([1, 2]),
        "text_indexes": torch.tensor([0, 1]),
        "position_ids": torch.arange(18).repeat(3, 1),
        "und_len": 2,
        "sequence_length": 18,
        "vision_tokens": [noise(1, 2, 1, 4, 4)],
        "vision_token_shapes": [(1, 4, 4)],
        "vision_sequence_indexes": tokens,
        "vision_mse_loss_indexes": tokens,
        "vision_timesteps": torch.full((16,), 500.0),
        "vision_noisy_frame_indexes": [torch.tensor([0])],
    }


def _kandinsky5() -> dict[str, Any]:
    return {
        "hidden_states": noise(1, 2, 8, 8, 4),
        "encoder_hidden_states": noise(1, _TEXT, 12),
        "timestep": steps(batch=1),
        "pooled_projections": noise(1, 8),
        "visual_rope_pos": [torch.arange(2), torch.arange(4), torch.arange(4)],
        "text_rope_pos": torch.arange(_TEXT),
    }


EXAMPLES = (
    Example(
        "Kandinsky5Transformer3DModel",
        lambda depth: {
            "in_text_dim": 12,
            "in_text_dim2": 8,
            "time_dim": 16,
            "model_dim": 24,
            "ff_dim": 32,
            "num_text_blocks": 1,
            "num_visual_blocks": depth,
            "axes_dims": (4, 4, 4),
        },
        _kandinsky5,
    ),
    Example(
        "Kandinsky6Transformer3DModel",
        lambda depth: {
            "in_visual_dim": 4,
            "out_visual_dim": 4,
            "in_text_dim": 12,
            "in_text_dim2": 8,
            "time_dim": 16,
            "model_dim": 24,
            "ff_dim": 32,
            "num_text_blocks": 1,
            "num_visual_blocks": depth,
            "axes_dims": (4, 4, 4),
            "visual_cond": False,
            "in_audio_dim": 6,
            "out_audio_dim": 6,
        },
        lambda: {
            "hidden_states": noise(BATCH, 2, 8, 8, 4),
            "encoder_hidden_states": noise(BATCH, _TEXT, 12),
            "pooled_projections": noise(BATCH, 8),
            "timestep": steps(),
            "audio_hidden_states": noise(BATCH, 8, 6),
        },
    ),
    Example(
        "Kandinsky6SRTransformer3DModel",
        lambda depth: {
            "in_visual_dim": 4,
            "out_visual_dim": 4,
            "time_dim": 16,
            "model_dim": 32,
            "ff_dim": 32,
            "num_visual_blocks": depth,
            "axes_dims": (4, 6, 6),
            "nabla_window": (1, 1, 1),
        },
        lambda: {"hidden_states": noise(BATCH, 2, 16, 16, 9), "timestep": steps()},
    ),
    Example(
        "LTX2VideoTransformer3DModel",
        lambda depth: {
            "in_channels": 4,
            "out_channels": 4,
            "num_attention_heads": 2,
            "attention_head_dim": 8,
            "cross_attention_dim": 16,
            "audio_in_channels": 4,
            "audio_out_channels": 4,
            "audio_num_attention_heads": 2,
            "audio_attention_head_dim": 4,
            "audio_cross_attention_dim": 8,
            "num_layers": depth,
            "caption_channels": 16,
            "rope_double_precision": False,
        },
        lambda: {
            "hidden_states": noise(BATCH, 64, 4),
            "audio_hidden_states": noise(BATCH, 9, 4),
            "encoder_hidden_states": noise(BATCH, _TEXT, 16),
            "audio_encoder_hidden_states": noise(BATCH, _TEXT, 16),
            "timestep": steps(),
            "encoder_attention_mask": ones(BATCH, _TEXT),
            "num_frames": 2,
            "height": 4,
            "width": 8,
            "audio_num_frames": 9,
            "fps": 25.0,
        },
    ),
    Example(
        "MiniMaxH3Transformer3DModel",
        lambda depth: {
            "num_attention_heads": 2,
            "attention_head_dim": 16,
            "hidden_size": 24,
            "num_layers": depth,
            "num_refiner_layers": 1,
            "ffn_dim": 32,
            "in_channels": 4,
            "audio_in_channels": 6,
            "text_dim": 12,
            "freq_dim": 8,
            "time_embed_hidden_dim": 24,
            "time_embed_dim": 16,
            "rope_freq_dim": 2,
        },
        _minimax_inputs,
    ),
    Example(
        "Cosmos3OmniTransformer",
        lambda depth: {
            "head_dim": 6,
            "hidden_act": "relu2",
            "hidden_size": 12,
            "intermediate_size": 24,
            "latent_channel": 2,
            "latent_patch_size": 1,
            "num_attention_heads": 2,
            "num_hidden_layers": depth,
            "num_key_value_heads": 1,
            "patch_latent_dim": 2,
            "qk_norm_for_text": False,
            "rms_norm_eps": 1e-5,
            "rope_axes_dim": [1, 1, 1],
            "vocab_size": 32,
        },
        _cosmos3_inputs,
    ),
    Example(
        "SanaWMTransformer3DModel",
        lambda depth: {
            "in_channels": 4,
            "num_layers": depth,
            "hidden_size": 24,
            "num_attention_heads": 2,
            "softmax_every_n": 2,
            "linear_head_dim": 12,
            "caption_channels": 12,
            "use_chunk_plucker_post_attn": False,
        },
        lambda: {
            "hidden_states": noise(1, 4, 2, 4, 4),
            "timestep": torch.full((1, 1, 2), 500.0),
            "encoder_hidden_states": noise(1, 1, _TEXT, 12),
            "encoder_attention_mask": ones(1, _TEXT),
        },
    ),
    Example(
        "SanaWMLTX2RefinerTransformer3DModel",
        lambda depth: {
            "in_channels": 4,
            "out_channels": 4,
            "num_attention_heads": 2,
            "attention_head_dim": 8,
            "cross_attention_dim": 16,
            "audio_in_channels": 4,
            "audio_out_channels": 4,
            "audio_num_attention_heads": 2,
            "audio_attention_head_dim": 4,
            "audio_cross_attention_dim": 8,
            "num_layers": depth,
            "caption_channels": 16,
            "rope_double_precision": False,
        },
        lambda: {
            "hidden_states": noise(BATCH, 64, 4),
            "encoder_hidden_states": noise(BATCH, _TEXT, 16),
            "timestep": torch.full((BATCH, 64), 500.0),
            "video_rotary_emb": (noise(1, 64, 16), noise(1, 64, 16)),
        },
    ),
    Example(
        "PriorTransformer",
        lambda depth: {
            "num_attention_heads": 2,
            "attention_head_dim": 8,
            "num_layers": depth,
            "embedding_dim": 8,
            "num_embeddings": 7,
            "additional_embeddings": 4,
        },
        lambda: {
            "hidden_states": noise(BATCH, 8),
            "timestep": steps(),
            "proj_embedding": noise(BATCH, 8),
            "encoder_hidden_states": noise(BATCH, 7, 8),
        },
    ),
    Example(
        "RFD4ProteinaTransformer",
        lambda depth: {
            "nlayers": depth,
            "token_dim": 16,
            "nheads": 2,
            "dim_cond": 16,
            "pair_repr_dim": 8,
            "latent_dim": 4,
            "t_emb_dim": 16,
            "feats_seq": ("xt_bb_ca", "xt_local_latents"),
            "feats_cond_seq": ("time_emb_bb_ca", "time_emb_local_latents"),
            "feats_pair_repr": ("xt_bb_ca_pair_dists",),
            "tri_mult_c": 8,
        },
        lambda: {
            "bb_ca": noise(BATCH, 16, 3),
            "local_latents": noise(BATCH, 16, 4),
            "bb_ca_time": steps(0.5),
            "local_latents_time": steps(0.5),
            "padding_mask": torch.ones(BATCH, 16, dtype=torch.bool),
            "conditioning": {
                "is_in_context_conditioning": torch.zeros(BATCH, 16, dtype=torch.bool),
                "supports_local_latent": torch.ones(BATCH, 16, dtype=torch.bool),
            },
        },
    ),
)
