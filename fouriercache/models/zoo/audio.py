"""Denoisers of sound: one axis of tokens."""

from __future__ import annotations

import torch

from fouriercache.models.zoo.example import BATCH, Example, noise, ones, steps

_TEXT = 6

EXAMPLES = (
    Example(
        "AceStepTransformer1DModel",
        lambda depth: {
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": depth,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "head_dim": 8,
            "in_channels": 24,
            "audio_acoustic_hidden_dim": 8,
            "sliding_window": 16,
        },
        lambda: {
            "hidden_states": noise(BATCH, 32, 8),
            "timestep": steps(0.5),
            "timestep_r": steps(0.5),
            "encoder_hidden_states": noise(BATCH, _TEXT, 32),
            "context_latents": noise(BATCH, 32, 16),
        },
    ),
    Example(
        "StableAudioDiTModel",
        lambda depth: {
            "sample_size": 64,
            "in_channels": 4,
            "num_layers": depth,
            "attention_head_dim": 8,
            "num_attention_heads": 2,
            "num_key_value_attention_heads": 1,
            "out_channels": 4,
            "cross_attention_dim": 8,
            "time_proj_dim": 8,
            "global_states_input_dim": 8,
            "cross_attention_input_dim": 12,
        },
        lambda: {
            "hidden_states": noise(BATCH, 4, 64),
            "timestep": steps(0.5),
            "encoder_hidden_states": noise(BATCH, _TEXT, 12),
            "global_hidden_states": noise(BATCH, 1, 8),
            "rotary_embedding": (noise(65, 4), noise(65, 4)),
        },
    ),
    Example(
        "StableAudio3DiTModel",
        lambda depth: {
            "io_channels": 4,
            "embed_dim": 32,
            "depth": depth,
            "num_heads": 4,
            "cond_token_dim": 12,
            "global_cond_dim": 8,
            "local_add_cond_dim": 5,
            "timestep_features_dim": 16,
            "ff_mult": 2,
            "num_memory_tokens": 3,
            "use_differential_attention": False,
        },
        lambda: {
            "hidden_states": noise(BATCH, 4, 32),
            "timestep": steps(0.5),
            "encoder_hidden_states": noise(BATCH, _TEXT, 12),
            "global_hidden_states": noise(BATCH, 8),
        },
    ),
    Example(
        "LongCatAudioDiTTransformer",
        lambda depth: {
            "dit_dim": 32,
            "dit_depth": depth,
            "dit_heads": 4,
            "dit_text_dim": 12,
            "latent_dim": 8,
            "text_conv": False,
        },
        lambda: {
            "hidden_states": noise(BATCH, 32, 8),
            "encoder_hidden_states": noise(BATCH, _TEXT, 12),
            "encoder_attention_mask": torch.ones(BATCH, _TEXT, dtype=torch.bool),
            "timestep": steps(0.5),
            "attention_mask": torch.ones(BATCH, 32, dtype=torch.bool),
        },
    ),
    Example(
        "MiniMaxMusic3Transformer1DModel",
        lambda depth: {
            "in_channels": 8,
            "condition_dim": 12,
            "num_layers": depth,
            "num_attention_heads": 2,
            "attention_head_dim": 8,
            "ff_inner_dim": 32,
            "rotary_dim": 4,
            "fourier_embedding_dim": 8,
        },
        lambda: {
            "hidden_states": noise(BATCH, 8, 32),
            "encoder_hidden_states": noise(BATCH, 32, 12),
            "timestep": steps(0.5),
        },
    ),
    Example(
        "T5FilmDecoder",
        lambda depth: {
            "input_dims": 8,
            "targets_length": 32,
            "d_model": 16,
            "num_layers": depth,
            "num_heads": 2,
            "d_kv": 8,
            "d_ff": 32,
        },
        lambda: {
            "encodings_and_masks": [(noise(BATCH, _TEXT, 16), ones(BATCH, _TEXT))],
            "decoder_input_tokens": noise(BATCH, 32, 8),
            "decoder_noise_time": steps(0.5),
        },
    ),
)
