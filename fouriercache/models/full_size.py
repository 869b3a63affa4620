"""Published models at their full size, as data: the configuration, and one call. Built on the meta device, so that no
weight is loaded and no memory is used.

The configurations are those of the published checkpoints' `config.json`; the calls are those of the pipelines at the
size that the publications show. A batch of two is a guided one, of one prompt with and without its text.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn

from fouriercache.program import TokenGrid

__all__ = ["FULL_SIZE", "FullSize", "Given", "build_full_size"]


@dataclass(frozen=True)
class Given:
    """A tensor argument of the call: its shape, and its dtype where it is not the model's own."""

    shape: tuple[int, ...]
    dtype: torch.dtype | None = None


@dataclass(frozen=True)
class FullSize:
    """A model at its full size.

    Attributes:
        kind: the class's name, in diffusers or here.
        config: its arguments, where they are not the defaults.
        call: the keyword arguments of one call; what is no `Given` is passed as it is.
        what: one line for people.
        dtype: of the weights.
        depth: names of the arguments that say how many blocks there are.
        grid: the token grid, where the graph does not show it.
    """

    kind: str
    config: Mapping[str, Any]
    call: Mapping[str, Any]
    what: str
    dtype: torch.dtype = torch.bfloat16
    depth: tuple[str, ...] = ("num_layers",)
    grid: TokenGrid | None = None


FULL_SIZE: Mapping[str, FullSize] = MappingProxyType(
    {
        "dit-xl-2": FullSize(
            "DiTTransformer2DModel",
            {
                "num_attention_heads": 16,
                "attention_head_dim": 72,
                "in_channels": 4,
                "out_channels": 8,
                "num_layers": 28,
                "sample_size": 32,
                "patch_size": 2,
                "num_embeds_ada_norm": 1000,
                "norm_type": "ada_norm_zero",
            },
            {
                "hidden_states": Given((2, 4, 32, 32)),
                "timestep": Given((2,), torch.int64),
                "class_labels": Given((2,), torch.int64),
            },
            "DiT-XL/2, 256 x 256 pixels",
            torch.float16,
        ),
        "pixart-xl-2": FullSize(
            "PixArtTransformer2DModel",
            {"sample_size": 64, "num_layers": 28, "caption_channels": 4096, "use_additional_conditions": False},
            {
                "hidden_states": Given((2, 4, 64, 64)),
                "timestep": Given((2,), torch.int64),
                "encoder_hidden_states": Given((2, 120, 4096)),
                "encoder_attention_mask": Given((2, 120)),
                "added_cond_kwargs": {"resolution": None, "aspect_ratio": None},
            },
            "PixArt-alpha XL/2, 512 x 512 pixels, 120 tokens of text",
            torch.float16,
        ),
        "sd3-medium": FullSize(
            "SD3Transformer2DModel",
            {
                "sample_size": 128,
                "num_layers": 24,
                "num_attention_heads": 24,
                "caption_projection_dim": 1536,
                "pos_embed_max_size": 192,
            },
            {
                "hidden_states": Given((2, 16, 128, 128)),
                "encoder_hidden_states": Given((2, 333, 4096)),
                "pooled_projections": Given((2, 2048)),
                "timestep": Given((2,), torch.float32),
            },
            "Stable Diffusion 3 medium, 1024 x 1024 pixels, 333 tokens of text",
        ),
        "sd3.5-large": FullSize(
            "SD3Transformer2DModel",
            {
                "sample_size": 128,
                "num_layers": 38,
                "num_attention_heads": 38,
                "caption_projection_dim": 2432,
                "pos_embed_max_size": 192,
                "qk_norm": "rms_norm",
            },
            {
                "hidden_states": Given((2, 16, 128, 128)),
                "encoder_hidden_states": Given((2, 333, 4096)),
                "pooled_projections": Given((2, 2048)),
                "timestep": Given((2,), torch.float32),
            },
            "Stable Diffusion 3.5 large, 1024 x 1024 pixels, 333 tokens of text",
        ),
        "flux-dev": FullSize(
            "FluxTransformer2DModel",
            {"guidance_embeds": True},
            {
                "hidden_states": Given((1, 4096, 64)),
                "encoder_hidden_states": Given((1, 512, 4096)),
                "pooled_projections": Given((1, 768)),
                "timestep": Given((1,)),
                "img_ids": Given((4096, 3)),
                "txt_ids": Given((512, 3)),
                "guidance": Given((1,), torch.float32),
            },
            "FLUX.1-dev, 1024 x 1024 pixels, 512 tokens of text",
            depth=("num_layers", "num_single_layers"),
            grid=TokenGrid(1, 64, 64),
        ),
        "wan-1.3b": FullSize(
            "WanTransformer3DModel",
            {"num_attention_heads": 12, "ffn_dim": 8960, "num_layers": 30},
            {
                "hidden_states": Given((1, 16, 21, 60, 104)),
                "timestep": Given((1,), torch.int64),
                "encoder_hidden_states": Given((1, 512, 4096)),
            },
            "Wan 2.1 T2V 1.3B, 81 frames of 832 x 480 pixels",
        ),
        "wan-14b": FullSize(
            "WanTransformer3DModel",
            {},
            {
                "hidden_states": Given((1, 16, 21, 90, 160)),
                "timestep": Given((1,), torch.int64),
                "encoder_hidden_states": Given((1, 512, 4096)),
            },
            "Wan 2.1 T2V 14B, and each of the two transformers of Wan 2.2, 81 frames of 1280 x 720 pixels",
        ),
        "hunyuan-video": FullSize(
            "HunyuanVideoTransformer3DModel",
            {},
            {
                "hidden_states": Given((1, 16, 33, 90, 160)),
                "timestep": Given((1,), torch.float32),
                "encoder_hidden_states": Given((1, 256, 4096)),
                "encoder_attention_mask": Given((1, 256)),
                "pooled_projections": Given((1, 768)),
                "guidance": Given((1,)),
            },
            "HunyuanVideo, 129 frames of 1280 x 720 pixels, 256 tokens of text",
            depth=("num_layers", "num_single_layers"),
        ),
        "opensora-stdit3-xl-2": FullSize(
            "OpenSoraTransformer3DModel",
            {},
            {
                "hidden_states": Given((2, 4, 15, 60, 106)),
                "timestep": Given((2,), torch.float32),
                "encoder_hidden_states": Given((2, 300, 4096)),
                "fps": Given((2,), torch.float32),
                "height": Given((2,), torch.float32),
                "width": Given((2,), torch.float32),
                "encoder_attention_mask": Given((2, 300), torch.int64),
            },
            "Open-Sora 1.2, 51 frames of 854 x 480 pixels",
            depth=("depth",),
        ),
    }
)


def build_full_size(name: str, *, depth: int | Mapping[str, int] | None = None) -> tuple[nn.Module, dict[str, Any]]:
    """Return a model of `FULL_SIZE` on the meta device, in eval mode, and the keyword arguments of one call.

    Args:
        depth: blocks of each kind, when the whole depth is not wanted, or how many by the names of the arguments that
            say it; the width stays.

    Raises:
        KeyError: there is no such model.
    """
    import diffusers  # not before a model is built: names and shapes alone are asked for more often

    from fouriercache.models import opensora

    spec = FULL_SIZE[name]
    fewer = depth if isinstance(depth, Mapping) else {} if depth is None else dict.fromkeys(spec.depth, depth)
    kind: Any = getattr(diffusers, spec.kind, None) or getattr(opensora, spec.kind)
    with torch.device("meta"):
        model: nn.Module = kind(**{**spec.config, **fewer})
    in_float32 = set(kind._keep_in_fp32_modules or ())  # what from_pretrained leaves as it is
    for path, module in list(model.named_modules()):
        for key, tensor in [*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)]:
            if tensor.is_floating_point() and in_float32.isdisjoint([*path.split("."), key]):
                cast = tensor.detach().to("meta", spec.dtype)
                setattr(module, key, nn.Parameter(cast, False) if isinstance(tensor, nn.Parameter) else cast)
    return model.eval().requires_grad_(False), {name: _tensor(value, spec.dtype) for name, value in spec.call.items()}


def _tensor(value: Any, usual: torch.dtype) -> Any:
    if not isinstance(value, Given):
        return value
    made: Tensor = torch.empty(value.shape, dtype=value.dtype or usual, device="meta")
    return made
