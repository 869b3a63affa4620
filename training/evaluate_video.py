"""Measure the published video model and write its card's figures.

    python training/evaluate_video.py --samples 270

As `evaluate.py` does for images: samples at several guidance weights, judged beside as many real videos. Writes
metrics.json and the figures in README.md, both in fouriercache/models/demo_video, and docs/images/demo_videos.png.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from classifier import VIDEOS
from measuring import REAL_SEED, judge_samples, sample_kept, save_sheet
from publish import replace_figures
from torch import Tensor

from fouriercache.models import demo_video
from fouriercache.models.judge import load_video_judge

SHEET = Path(__file__).parents[1] / "docs" / "images" / "demo_videos.png"


def sample_videos(guidance: float, count: int, batch: int, steps: int, folder: Path) -> tuple[Tensor, Tensor]:
    """Sample `count` videos, the classes taking turns, a batch and a file at a time.

    Returns:
        videos float32 [count, 3, 8, 24, 24], labels int64 [count].
    """
    labels = torch.arange(count) % len(demo_video.CLASS_NAMES)
    model, scheduler = demo_video.load_video_model(), demo_video.load_video_scheduler()
    embeddings = demo_video.load_class_embeddings()

    def sample(part: Tensor, noise: Tensor, on_step: Callable[[int, Tensor], None]) -> Tensor:
        return demo_video.sample(
            model, scheduler, embeddings, part, noise, num_steps=steps, guidance=guidance, on_step=on_step
        )

    name = f"guidance-{guidance:g}"
    return sample_kept(sample, labels, demo_video.SHAPE, batch=batch, steps=steps, folder=folder, name=name), labels


def as_rows(videos: Tensor) -> Tensor:
    """The frames of each video after each other, [n * frames, 3, s, s]."""
    return videos.transpose(1, 2).flatten(0, 1)


def write_figures(metrics: dict[str, Any]) -> str:
    """The model card's tables, in Markdown."""
    run, chosen, real = metrics["training"], metrics["samples"], metrics["real"]
    lines = [
        f"Weights `{metrics['weights_sha256'][:12]}`: {metrics['parameters']:,} parameters, {run['step']} training "
        f"steps, {run['images_seen']:,} videos or parts of videos, {run['elapsed'] / 60:.0f} minutes. Samples: Euler, "
        f"{metrics['steps']} steps, equal numbers of each class.",
        "",
        "| videos | guidance | number | classifier accuracy | Frechet distance to real videos |",
        "|---|---|---|---|---|",
    ]
    rows = [("samples", f"{metrics['guidance']:g}", chosen), ("real, held out", "", real)]
    rows += [("samples", f"{row['guidance']:g}", row) for row in metrics["sweep"]]
    for name, weight, row in rows:
        lines.append(f"| {name} | {weight} | {row['images']} | {row['accuracy']:.1%} | {row['frechet_distance']:.3f} |")
    lines += ["", "| class | samples | real |", "|---|---|---|"]
    for name, share in chosen["class_accuracy"].items():
        lines.append(f"| {name} | {share:.1%} | {real['class_accuracy'][name]:.1%} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=270, help="videos at the chosen guidance")
    parser.add_argument("--sweep", type=float, nargs="*", default=[1.0, 3.0], help="further guidance weights")
    parser.add_argument("--sweep-samples", type=int, default=90, help="videos at each of them")
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--batch", type=int, default=45, help="a multiple of 9, so that classes stay balanced")
    parser.add_argument("--work", type=Path, default=Path("runs/evaluate_video"))
    args = parser.parse_args()

    torch.set_num_threads(1)
    manifest = json.loads((demo_video.FOLDER / "manifest.json").read_text())["files"]
    digest = manifest["diffusion_pytorch_model.safetensors"]
    folder, names, judge = args.work / f"{digest[:12]}-{args.steps}", demo_video.CLASS_NAMES, load_video_judge()
    videos, labels = sample_videos(demo_video.GUIDANCE, args.samples, args.batch, args.steps, folder)
    real, real_labels = VIDEOS.draw_balanced(args.samples, REAL_SEED)
    sweep = []
    for guidance in args.sweep:
        found = sample_videos(guidance, args.sweep_samples, args.batch, args.steps, folder)
        sweep.append({"guidance": guidance} | judge_samples(judge, *found, names))
    training = json.loads((demo_video.FOLDER / "training.json").read_text())
    metrics = {
        "weights_sha256": digest,
        "parameters": sum(p.numel() for p in demo_video.load_video_model().parameters()),
        "training": {k: v for k, v in training.items() if k != "history"},
        "steps": args.steps,
        "guidance": demo_video.GUIDANCE,
        "samples": judge_samples(judge, videos, labels, names),
        "real": judge_samples(judge, real, real_labels, names),
        "sweep": sweep,
    }
    (demo_video.FOLDER / "metrics.json").write_text(json.dumps(metrics, indent=1) + "\n")
    card = demo_video.FOLDER / "README.md"
    card.write_text(replace_figures(card.read_text(), write_figures(metrics)))
    count, frames = len(names), demo_video.SHAPE[1]
    shown = torch.cat([as_rows(real[:count]), as_rows(videos[:count])])
    save_sheet(shown, SHEET, columns=frames, upper=count * frames)
    print(f"accuracy {metrics['samples']['accuracy']:.1%}, Frechet distance {metrics['samples']['frechet_distance']}")
    print(f"wrote {demo_video.FOLDER / 'metrics.json'}, {card} and {SHEET}")


if __name__ == "__main__":
    main()
