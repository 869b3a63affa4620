"""Weights of the published DiT (facebookresearch/DiT names) in diffusers' DiT: the same function."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from diffusers.models.transformers.dit_transformer_2d import DiTTransformer2DModel
from torch import Tensor

EMBEDDERS = {
    "timestep_embedder.linear_1": "t_embedder.mlp.0",
    "timestep_embedder.linear_2": "t_embedder.mlp.2",
    "class_embedder.embedding_table": "y_embedder.embedding_table",
}
BLOCK = {
    "norm1.linear": "adaLN_modulation.1",
    "attn1.to_out.0": "attn.proj",
    "ff.net.0.proj": "mlp.fc1",
    "ff.net.2": "mlp.fc2",
}
AROUND = {
    "pos_embed.proj": "x_embedder.proj",
    "proj_out_1": "final_layer.adaLN_modulation.1",
    "proj_out_2": "final_layer.linear",
}


def dit_from_published(config: Mapping[str, Any], weights: Mapping[str, Tensor]) -> DiTTransformer2DModel:
    """Return diffusers' DiT in eval mode with the published weights, every tensor used once or more.

    Args:
        config: `input_size`, `patch_size`, `in_channels`, `hidden_size`, `depth`, `num_heads`, `num_classes`,
            `learn_sigma`, as the published constructor takes them.
        weights: by their published names, float32.
    """
    model: Any = DiTTransformer2DModel(
        num_attention_heads=config["num_heads"],
        attention_head_dim=config["hidden_size"] // config["num_heads"],
        in_channels=config["in_channels"],
        out_channels=config["in_channels"] * (2 if config["learn_sigma"] else 1),
        num_layers=config["depth"],
        sample_size=config["input_size"],
        patch_size=config["patch_size"],
        num_embeds_ada_norm=config["num_classes"],
        norm_eps=1e-6,  # as published; diffusers' default is 1e-5
    )
    state = dict(_renamed(AROUND, "", "", weights))
    for index, block in enumerate(model.transformer_blocks):
        there, here = f"transformer_blocks.{index}.", f"blocks.{index}."
        state |= _renamed(BLOCK, there, here, weights)
        for kind in ("weight", "bias"):
            for name, part in zip("qkv", weights[f"{here}attn.qkv.{kind}"].chunk(3), strict=True):
                state[f"{there}attn1.to_{name}.{kind}"] = part
        # diffusers gives every block an embedder of its own where the published model shares one
        state |= _renamed(EMBEDDERS, f"{there}norm1.emb.", "", weights)
        block.norm1.emb.time_proj.downscale_freq_shift = 0  # as published; diffusers' DiT has 1
    model.load_state_dict(state)
    model.pos_embed.pos_embed.copy_(weights["pos_embed"])  # a buffer that diffusers keeps out of state dicts
    model.eval()
    mapped: DiTTransformer2DModel = model
    return mapped


def _renamed(names: Mapping[str, str], there: str, here: str, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {
        f"{there}{new}.{kind}": weights[f"{here}{old}.{kind}"]
        for new, old in names.items()
        for kind in ("weight", "bias")
        if f"{here}{old}.{kind}" in weights
    }


def forward_with_cfg(model: Any, x: Tensor, timestep: int, labels: Tensor, scale: float) -> Tensor:
    """One call of the model as DiT's `forward_with_cfg` makes it.

    The first half of `x` [2n, C, H, W] is fed with both halves of `labels` [2n]; guidance acts on channels 0..2 alone.
    """
    half = x[: len(x) // 2]
    timesteps = torch.full((len(x),), timestep)
    out: Tensor = model(torch.cat([half, half]), timestep=timesteps, class_labels=labels).sample
    with_class, without = out[:, :3].chunk(2)
    guided = without + scale * (with_class - without)
    return torch.cat([torch.cat([guided, guided]), out[:, 3:]], dim=1)
