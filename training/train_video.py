"""Train the class-conditional video transformer that the project ships, on one CPU core in an hour and a half.

    python training/train_video.py --out runs/video --minutes 85

As `train_dit.py` does, the run is bounded by wall-clock time and goes on from its own checkpoint, and no video is seen
twice. It begins with two successive frames of each video, goes on with four, and ends with all eight.

Flow matching (Lipman et al. 2023, arXiv:2210.02747; as in SD3, arXiv:2403.03206, equation 13): the model predicts
noise - video at the noise level sigma, levels drawn from a logit-normal distribution (the same, section 3.1).
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import moving_shapes
import torch
from diffusers import FlowMatchEulerDiscreteScheduler, WanTransformer3DModel
from recipe import Run, silence_fast_timesteps, stratified
from safetensors.torch import save_file
from torch import Tensor, nn

CONFIG: dict[str, Any] = {
    "patch_size": (1, 4, 4),
    "num_attention_heads": 3,
    "attention_head_dim": 32,
    "in_channels": 3,
    "out_channels": 3,
    "text_dim": 32,
    "freq_dim": 64,
    "ffn_dim": 384,
    "num_layers": 6,
    "cross_attn_norm": True,
    "rope_max_seq_len": 16,
}
STAGES = ((0.0, 2), (0.3, 4), (0.55, moving_shapes.FRAMES))
"""From which share of the run on how many successive frames of a video are trained on."""


class Conditioned(nn.Module):
    """The transformer and the words it is conditioned on: a class is the word of its shape and that of its motion.

    The last word stands for nothing, twice: the null class of classifier-free guidance.
    """

    def __init__(self) -> None:
        super().__init__()
        self.transformer: Any = WanTransformer3DModel(**CONFIG)  # diffusers leaves its modules untyped
        count = len(moving_shapes.SHAPES) + len(moving_shapes.MOTIONS) + 1
        self.words = nn.Parameter(torch.randn(count, CONFIG["text_dim"]))
        self._start_at_zero()

    def _start_at_zero(self) -> None:
        """Every branch begins with a gate, or an output, of zero (adaLN-zero; Peebles and Xie 2023, section 3.2)."""
        model = self.transformer
        for layer in (model.condition_embedder.time_proj, model.proj_out):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)
        nn.init.zeros_(model.scale_shift_table)
        for block in model.blocks:
            nn.init.zeros_(block.scale_shift_table)
            nn.init.zeros_(block.attn2.to_out[0].weight)

    def embeddings(self) -> Tensor:
        """What each class, the null class last, is called by: [10, 2, 32]."""
        labels = torch.arange(len(moving_shapes.CLASSES))
        shape, motion = labels // len(moving_shapes.MOTIONS), labels % len(moving_shapes.MOTIONS)
        null = torch.full((1,), len(self.words) - 1)
        first, second = torch.cat([shape, null]), torch.cat([motion + len(moving_shapes.SHAPES), null])
        return torch.stack([self.words[first], self.words[second]], dim=1)

    def silence(self) -> None:
        """Keep fast timestep sinusoids at zero weight."""
        silence_fast_timesteps(self.transformer.condition_embedder.time_embedder.linear_1.weight, shift=0)

    def forward(self, videos: Tensor, noise: Tensor, sigma: Tensor, labels: Tensor) -> Tensor:
        """Return the mean squared error of the predicted velocity."""
        level = sigma.view(-1, 1, 1, 1, 1)
        found = self.transformer(
            videos.lerp(noise, level), timestep=1000 * sigma, encoder_hidden_states=self.embeddings()[labels]
        ).sample
        loss: Tensor = (found - (noise - videos)).square().mean()
        return loss


def save_model(weights: dict[str, Tensor], folder: Path, card: dict[str, Any]) -> None:
    """Write diffusers' layout, the class embeddings beside it, and the record of the run."""
    folder.mkdir(parents=True, exist_ok=True)
    model = Conditioned()
    model.load_state_dict(weights)
    model.transformer.save_pretrained(folder)
    scheduler: Any = FlowMatchEulerDiscreteScheduler()  # diffusers hides what a scheduler inherits
    scheduler.save_pretrained(folder / "scheduler")
    save_file({"embeddings": model.embeddings().detach().contiguous()}, folder / "classes.safetensors")
    (folder / "training.json").write_text(json.dumps(card, indent=2) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=85)
    parser.add_argument("--batch", type=int, default=16, help="whole videos a step; of fewer frames, as many frames")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--save-every", type=float, default=5, help="minutes")
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()

    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    model = Conditioned()
    run = Run(model, args.out, save_model, minutes=args.minutes, seed=args.seed, save_every=args.save_every)
    classes = len(moving_shapes.CLASSES)
    for fraction in run:
        frames = max(count for begin, count in STAGES if begin <= fraction)
        n = args.batch * moving_shapes.FRAMES // frames
        labels = torch.randint(0, classes, (n,), generator=run.generator)
        videos = moving_shapes.draw(labels, run.generator, frames)
        sigma = torch.special.ndtri(stratified(n, run.generator).clamp(1e-4, 1 - 1e-4)).sigmoid()
        noise = torch.randn(videos.shape, generator=run.generator)
        labels[torch.rand(n, generator=run.generator) < 0.1] = classes
        run.learn(model(videos, noise, sigma, labels), n, model.silence, frames)


if __name__ == "__main__":
    main()
