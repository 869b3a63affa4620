"""Open-Sora 1.2's denoiser, STDiT3: blocks within frames and along time in turn; frames that may be given.

Source: "Open-Sora: Democratizing Efficient Video Production for All" (arXiv 2412.20404, section 3), and the released
code of version 1.2. Names of parameters are those of the published checkpoints.
"""

from __future__ import annotations

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_outputs import Transformer2DModelOutput
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor, nn

from fouriercache.models.opensora.blocks import Block, Condition, FinalLayer
from fouriercache.models.opensora.embeddings import (
    CaptionEmbedder,
    PatchEmbed3D,
    PositionEmbedding2D,
    RotaryEmbedding,
    ScalarEmbedder,
)

__all__ = ["OpenSoraTransformer3DModel"]


class OpenSoraTransformer3DModel(ModelMixin, ConfigMixin):  # type: ignore[misc]  # diffusers has no types
    """STDiT3. The defaults are STDiT3-XL/2's, the model of Open-Sora 1.2.

    Args:
        in_channels: of the latents. With `pred_sigma`, twice as many come out; the second half is not used.
        patch_size: frames, rows and columns of a patch.
        hidden_size: divisible by 4 and by `num_heads`.
        depth: pairs of a spatial and a temporal block.
        input_sq_size: pixels of a side of the square that positions are scaled to.
        caption_channels, model_max_length: width and number of the text encoder's tokens.
        qk_norm: whether queries and keys are normalised.

    Raises:
        ValueError: `hidden_size` does not divide.
    """

    @register_to_config  # type: ignore[untyped-decorator]
    def __init__(
        self,
        in_channels: int = 4,
        patch_size: tuple[int, int, int] = (1, 2, 2),
        hidden_size: int = 1152,
        depth: int = 28,
        num_heads: int = 16,
        mlp_ratio: float = 4.0,
        pred_sigma: bool = True,
        input_sq_size: int = 512,
        caption_channels: int = 4096,
        model_max_length: int = 300,
        qk_norm: bool = True,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        if hidden_size % 4 or hidden_size % (2 * num_heads):
            raise ValueError(
                f"hidden_size={hidden_size} must be divisible by 4 and by twice num_heads={num_heads}.\n"
                "  The published sizes are 1152 with 16 heads (XL) and 1872 with 26 heads (3B)."
            )
        self.out_channels = 2 * in_channels if pred_sigma else in_channels
        self.pos_embed = PositionEmbedding2D(hidden_size)
        self.rope = RotaryEmbedding(hidden_size // num_heads)
        self.x_embedder = PatchEmbed3D((patch_size[0], patch_size[1], patch_size[2]), in_channels, hidden_size)
        self.t_embedder = ScalarEmbedder(hidden_size)
        self.fps_embedder = ScalarEmbedder(hidden_size)
        self.t_block = nn.Sequential(nn.SiLU(), nn.Linear(hidden_size, 6 * hidden_size))
        self.y_embedder = CaptionEmbedder(caption_channels, hidden_size, model_max_length)
        mlp_dim = int(hidden_size * mlp_ratio)
        self.spatial_blocks = nn.ModuleList(
            Block(hidden_size, num_heads, mlp_dim, qk_norm=qk_norm) for _ in range(depth)
        )
        self.temporal_blocks = nn.ModuleList(
            Block(hidden_size, num_heads, mlp_dim, qk_norm=qk_norm, rotate=self.rope) for _ in range(depth)
        )
        patch = patch_size[0] * patch_size[1] * patch_size[2]
        self._side, self._patch = input_sq_size, patch_size
        self.final_layer = FinalLayer(hidden_size, patch * self.out_channels)

    def null_caption(self, batch: int) -> Tensor:
        """Return the embedding [batch, model_max_length, caption_channels] that stands for no text."""
        return self.y_embedder.y_embedding.expand(batch, -1, -1)

    def forward(
        self,
        hidden_states: Tensor,
        timestep: Tensor,
        encoder_hidden_states: Tensor,
        fps: Tensor,
        height: Tensor,
        width: Tensor,
        encoder_attention_mask: Tensor | None = None,
        frame_mask: Tensor | None = None,
        return_dict: bool = True,
    ) -> Transformer2DModelOutput | tuple[Tensor]:
        """Predict the velocity from data to noise, and whatever the second half of the channels holds.

        Args:
            hidden_states: latents [B, C, frames, rows, columns]; what does not divide by the patch is padded, and cut
                off again.
            timestep: [B], from 1000 (noise) to 0.
            encoder_hidden_states: text [B, length, caption_channels], or [B, 1, length, caption_channels].
            fps: [B] or [1], frames in a second. height, width: [B] or [1], pixels of the decoded video, equal in a
                batch.
            encoder_attention_mask: [B, length]; 0 for padding, which is left out. Each text needs a word.
            frame_mask: [B, T], true for frames that are denoised; the others are taken for known ones, at timestep 0.
            return_dict: whether to return an output object or a tuple.

        Returns:
            [B, out_channels, frames, rows, columns], float32.
        """
        size = hidden_states.shape[2:]
        dtype = self.x_embedder.proj.weight.dtype
        states = self.x_embedder(hidden_states.to(dtype))
        batch, frames, rows, columns, _ = states.shape
        scale = (height[0] * width[0]).float().sqrt() / self._side
        states = states + self.pos_embed(rows, columns, scale).to(dtype)
        states = states.flatten(1, 3)

        rate = self.fps_embedder(fps.expand(batch), dtype)
        now = self.t_embedder(timestep.to(dtype), dtype) + rate
        known = None if frame_mask is None else self.t_embedder(torch.zeros_like(timestep).to(dtype), dtype) + rate
        is_denoised = None if frame_mask is None else frame_mask != 0
        condition = Condition(self.t_block(now), None if known is None else self.t_block(known), is_denoised)
        text = encoder_hidden_states.to(dtype)
        text = self.y_embedder(text.squeeze(1) if text.ndim == 4 else text)
        words = None if encoder_attention_mask is None else encoder_attention_mask != 0

        for spatial, temporal in zip(self.spatial_blocks, self.temporal_blocks, strict=True):
            states = spatial(states, text, condition, words, frames)
            states = temporal(states, text, condition, words, frames)

        values = self.final_layer(states, Condition(now, known, is_denoised))
        depth, tall, wide = self._patch
        patches = values.unflatten(-1, (depth, tall, wide, self.out_channels)).unflatten(1, (frames, rows, columns))
        video = patches.permute(0, 7, 1, 4, 2, 5, 3, 6)  # [B, C, T, depth, rows, tall, columns, wide]
        video = video.flatten(6, 7).flatten(4, 5).flatten(2, 3)[:, :, : size[0], : size[1], : size[2]]
        sample = video.float()
        return Transformer2DModelOutput(sample=sample) if return_dict else (sample,)
