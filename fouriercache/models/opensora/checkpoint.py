"""Reads what Open-Sora published: its config.json and its safetensors, with the names of its own code."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import safetensors
import torch
from safetensors.torch import load_file
from torch import nn

from fouriercache.errors import WeightsError
from fouriercache.models.opensora.transformer import OpenSoraTransformer3DModel
from fouriercache.paths import path_of

__all__ = ["load_published"]

_ARGUMENTS = (
    "in_channels",
    "patch_size",
    "hidden_size",
    "depth",
    "num_heads",
    "mlp_ratio",
    "pred_sigma",
    "input_sq_size",
    "caption_channels",
    "model_max_length",
    "qk_norm",
)


def load_published(folder: Path | str, *, dtype: torch.dtype | None = None) -> OpenSoraTransformer3DModel:
    """Load a published STDiT3 from its folder: `config.json`, and `model.safetensors` whole or in parts.

    Args:
        dtype: of the weights; None for that of the file.

    Raises:
        WeightsError: a file is missing or cannot be read, the model is no STDiT3, or names or shapes differ.
    """
    folder = path_of(folder)
    config = _read_json(folder / "config.json")
    kind = config.get("model_type")
    if kind != "STDiT3" or config.get("skip_y_embedder"):
        what = f"model_type {kind!r}" if kind != "STDiT3" else "skip_y_embedder, so text is embedded elsewhere"
        raise WeightsError(
            f"This is no STDiT3 that can be loaded: {what}.\n"
            f"  where: {folder / 'config.json'}\n"
            "  Use a checkpoint of Open-Sora 1.2 (STDiT3-XL/2, STDiT3-3B/2)."
        )
    weights = _read_weights(folder)
    with torch.device("meta"):
        model: OpenSoraTransformer3DModel = OpenSoraTransformer3DModel(
            **{name: config[name] for name in _ARGUMENTS if name in config}
        )
    wanted = {name: tensor.shape for name, tensor in model.state_dict().items()}
    wrong = [name for name in wanted.keys() & weights.keys() if wanted[name] != weights[name].shape]
    for what, names in {"missing": wanted.keys() - weights.keys(), "unknown": weights.keys() - wanted.keys(),
                        "of another shape": wrong}.items():  # fmt: skip
        if names:
            raise WeightsError(
                f"The weights do not fit the configuration: {len(names)} {what}, such as {min(names)}.\n"
                f"  where: {folder}\n"
                "  Let config.json and the safetensors be of one checkpoint."
            )
    model.load_state_dict(weights, assign=True)
    model.pos_embed = type(model.pos_embed)(model.x_embedder.proj.out_channels)  # its buffer is in no checkpoint
    if dtype is not None:
        nn.Module.to(model, dtype)  # diffusers' own is not typed
    model.eval()
    return model


def _read_json(path: Path) -> dict[str, Any]:
    try:
        read: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise WeightsError(f"Cannot read {path}: {error}.\n  Pass the checkpoint's folder.") from error
    return read


def _read_weights(folder: Path) -> dict[str, torch.Tensor]:
    index = folder / "model.safetensors.index.json"
    names = sorted(set(_read_json(index)["weight_map"].values())) if index.exists() else ["model.safetensors"]
    weights = {}
    for name in names:
        try:
            weights.update(load_file(folder / name))
        except (OSError, safetensors.SafetensorError) as error:
            raise WeightsError(
                f"Cannot read {folder / name}: {error}.\n"
                "  Download the checkpoint again; of .pth files only the safetensors of the same model are read."
            ) from error
    return weights
