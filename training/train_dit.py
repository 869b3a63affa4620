"""Train the class-conditional DiT that the project ships, on a CPU (hours) or a GPU (minutes).

    python training/train_dit.py --out runs/dit --minutes 120

The run is bounded by wall-clock time, checkpoints every few minutes and resumes from its own checkpoint. Images are
drawn as they are needed, so no image is seen twice. The first part of the run trains on windows of 8 x 8 tokens with
their true positions (five times as many images a second), the rest on all 16 x 16.

v-prediction (Salimans and Ho 2022, equation in section 4 of arXiv:2202.00512) on the linear DDPM schedule; Muon for
the blocks' matrices, AdamW for the rest; adaLN-zero initialisation (Peebles and Xie 2023, section 3.2).
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import shapes
import torch
from diffusers import DDIMScheduler, DiTTransformer2DModel
from recipe import Run, silence_fast_timesteps, stratified
from torch import Tensor, nn

CONFIG: dict[str, Any] = {
    "num_attention_heads": 4,
    "attention_head_dim": 32,
    "in_channels": 3,
    "out_channels": 3,
    "num_layers": 8,
    "sample_size": shapes.SIZE,
    "patch_size": 2,
    "num_embeds_ada_norm": len(shapes.CLASSES),
    "norm_type": "ada_norm_zero",
    "norm_elementwise_affine": False,
    "norm_eps": 1e-6,
}
SCHEDULER: dict[str, Any] = {
    "num_train_timesteps": 1000,
    "beta_schedule": "linear",
    "beta_start": 1e-4,
    "beta_end": 0.02,
    "prediction_type": "v_prediction",
    "clip_sample": False,
    "set_alpha_to_one": True,
}
WINDOW = 8
"""Side of the token window of the first part of the run."""


def new_model() -> Any:
    """Build the untrained model, adaLN-zero."""
    model: Any = DiTTransformer2DModel(**CONFIG)  # diffusers leaves its modules untyped
    for block in model.transformer_blocks:
        nn.init.zeros_(block.norm1.linear.weight)
        nn.init.zeros_(block.norm1.linear.bias)
    for layer in (model.proj_out_1, model.proj_out_2):
        nn.init.zeros_(layer.weight)
        nn.init.zeros_(layer.bias)
    # The class is dropped by drop_label below, once for all blocks; in train mode every block would draw its own.
    return model.eval()


def new_scheduler() -> Any:
    """Build the noise schedule."""
    return DDIMScheduler(**SCHEDULER)


def silence(model: Any) -> None:
    """Keep fast timestep sinusoids at zero weight in every block."""
    for block in model.transformer_blocks:
        silence_fast_timesteps(block.norm1.emb.timestep_embedder.linear_1.weight, shift=1)


class TokenLoss(nn.Module):
    """Mean squared v error on a window of tokens; the arithmetic is the model's own modules."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, noisy: Tensor, positions: Tensor, target: Tensor, t: Tensor, labels: Tensor) -> Tensor:
        """Return the scalar loss.

        Args:
            noisy, target: [n, 3, h, w]. positions: [n, h*w/4, hidden]. t, labels: int64 [n].
        """
        model = self.model
        hidden = model.pos_embed.proj(noisy).flatten(2).transpose(1, 2) + positions
        for block in model.transformer_blocks:
            hidden = block(hidden, timestep=t, class_labels=labels)
        embedding = model.transformer_blocks[0].norm1.emb(t, labels, hidden_dtype=hidden.dtype)
        shift, scale = model.proj_out_1(nn.functional.silu(embedding)).chunk(2, dim=1)
        out = model.proj_out_2(model.norm_out(hidden) * (1 + scale[:, None]) + shift[:, None])
        n, c, h, w = target.shape
        want = target.view(n, c, h // 2, 2, w // 2, 2).permute(0, 2, 4, 3, 5, 1).reshape(n, -1, 4 * c)
        loss: Tensor = (out.float() - want).square().mean()
        return loss


def windows(images: Tensor, positions: Tensor, side: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Cut one window of `side` x `side` tokens from every image, with its rows of the position embedding."""
    n, grid = images.shape[0], shapes.SIZE // 2
    if side == grid:
        return images, positions.expand(n, -1, -1)
    corner = torch.randint(0, grid - side + 1, (n, 2), generator=generator).tolist()
    table = positions.view(grid, grid, -1)
    cut = torch.stack(
        [x[:, 2 * i : 2 * (i + side), 2 * j : 2 * (j + side)] for x, (i, j) in zip(images, corner, strict=True)]
    )
    rows = torch.stack([table[i : i + side, j : j + side].flatten(0, 1) for i, j in corner])
    return cut, rows


def save_model(weights: dict[str, Tensor], folder: Path, card: dict[str, Any]) -> None:
    """Write diffusers' layout: config.json and diffusion_pytorch_model.safetensors."""
    folder.mkdir(parents=True, exist_ok=True)
    model = new_model()
    model.load_state_dict(weights)
    model.save_pretrained(folder)
    new_scheduler().save_pretrained(folder / "scheduler")
    (folder / "training.json").write_text(json.dumps(card, indent=2) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=120)
    parser.add_argument("--window-share", type=float, default=0.35, help="share of the run on 8 x 8 windows")
    parser.add_argument("--batch", type=int, default=48, help="images a full step; windows take four times as many")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--save-every", type=float, default=5, help="minutes")
    parser.add_argument("--compile", action="store_true")
    args = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"

    torch.manual_seed(args.seed)
    model = new_model().to(device)
    loss_fn: Any = TokenLoss(model)
    if args.compile:
        loss_fn = torch.compile(loss_fn, dynamic=False)
    alphas = new_scheduler().alphas_cumprod
    positions = model.pos_embed.pos_embed.cpu()
    run = Run(model, args.out, save_model, minutes=args.minutes, seed=args.seed, save_every=args.save_every)
    for fraction in run:
        side = WINDOW if fraction < args.window_share else shapes.SIZE // 2
        n = args.batch * (4 if side == WINDOW else 1)
        labels = torch.randint(0, len(shapes.CLASSES), (n,), generator=run.generator)
        images, rows = windows(shapes.draw(labels, run.generator), positions, side, run.generator)
        t = (1000 * stratified(n, run.generator)).long()
        a = alphas[t].view(-1, 1, 1, 1)
        noise = torch.randn(images.shape, generator=run.generator)
        noisy, target = a.sqrt() * images + (1 - a).sqrt() * noise, a.sqrt() * noise - (1 - a).sqrt() * images
        dropped = torch.rand(n, generator=run.generator) < 0.1
        labels = torch.where(dropped, len(shapes.CLASSES), labels)
        batch = [v.to(device) for v in (noisy, rows, target, t, labels)]
        with torch.autocast(device, torch.bfloat16):
            loss = loss_fn(*batch)
        run.learn(loss, n, lambda: silence(model), side)


if __name__ == "__main__":
    main()
