"""Measure the published demo model and write its card's figures.

    python training/evaluate.py --samples 1000

Samples 50-step DDIM images at several guidance weights, judges them with fouriercache.models.judge, and looks at how
the model's features behave between steps. Writes metrics.json, the figures in README.md, both in
fouriercache/models/demo_dit, and docs/images/demo_samples.png.

Batches already sampled from the same weights are kept under --work and read again, so a broken run continues.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from classifier import IMAGES
from diffusers.models.transformers.dit_transformer_2d import DiTTransformer2DModel
from measuring import REAL_SEED, batch_noise, judge_samples, sample_kept, save_sheet
from publish import replace_figures
from torch import Tensor

from fouriercache.models import demo
from fouriercache.models.judge import load_judge

GRID = Path(__file__).parents[1] / "docs" / "images" / "demo_samples.png"


def sample_set(
    model: DiTTransformer2DModel, guidance: float, count: int, batch: int, steps: int, folder: Path
) -> tuple[Tensor, Tensor]:
    """Sample `count` images, the classes taking turns, a batch and a file at a time.

    Returns:
        images float32 [count, 3, 32, 32], labels int64 [count].
    """
    labels, scheduler = torch.arange(count) % len(demo.CLASS_NAMES), demo.load_demo_scheduler()

    def sample(part: Tensor, noise: Tensor, on_step: Callable[[int, Tensor], None]) -> Tensor:
        return demo.sample(model, scheduler, part, noise, num_steps=steps, guidance=guidance, on_step=on_step)

    name = f"guidance-{guidance:g}"
    return sample_kept(sample, labels, demo.SHAPE, batch=batch, steps=steps, folder=folder, name=name), labels


def observe_features(model: DiTTransformer2DModel, steps: int, guidance: float) -> dict[str, Any]:
    """Watch one trajectory, one image of each class.

    Returns:
        `gates`: mean |gate| of the attention and the MLP branch of each block, over steps, channels and rows;
        `gates_by_step`: the same over blocks, for each step; `stack_change`: |r_i - r_(i-1)| / |r_i| of the stack's
        residual r (last block's output minus first block's input), for each step after the first.
    """
    gates: list[list[Tensor]] = []
    residuals: list[Tensor] = []
    entered: list[Tensor] = []

    def keep_gates(module: Any, inputs: Any, output: tuple[Tensor, Tensor, Tensor, Tensor, Tensor]) -> None:
        gates[-1].append(torch.stack([output[1].abs().mean(), output[4].abs().mean()]))

    def enter(module: Any, inputs: tuple[Tensor, ...]) -> None:
        gates.append([])
        entered.append(inputs[0])

    def leave(module: Any, inputs: Any, output: Tensor) -> None:
        residuals.append(output - entered.pop())

    blocks: Any = model.transformer_blocks  # torch types a submodule as a tensor or a module
    handles = [block.norm1.register_forward_hook(keep_gates) for block in blocks]
    handles += [blocks[0].register_forward_pre_hook(enter), blocks[-1].register_forward_hook(leave)]
    labels = torch.arange(len(demo.CLASS_NAMES))
    noise = batch_noise(0, len(labels), demo.SHAPE)
    demo.sample(model, demo.load_demo_scheduler(), labels, noise, num_steps=steps, guidance=guidance)
    for handle in handles:
        handle.remove()
    table = torch.stack([torch.stack(row) for row in gates])  # [steps, blocks, 2]
    change = [((b - a).norm() / b.norm()).item() for a, b in pairwise(residuals)]
    return {
        "gates": {
            "attention": [round(v, 4) for v in table[..., 0].mean(0).tolist()],
            "mlp": [round(v, 4) for v in table[..., 1].mean(0).tolist()],
        },
        "gates_by_step": {
            "attention": [round(v, 4) for v in table[..., 0].mean(1).tolist()],
            "mlp": [round(v, 4) for v in table[..., 1].mean(1).tolist()],
        },
        "stack_change": [round(v, 4) for v in change],
    }


def write_figures(metrics: dict[str, Any]) -> str:
    """The model card's tables, in Markdown."""
    chosen, real = metrics["samples"], metrics["real"]
    run, features = metrics["training"], metrics["features"]
    changes = features["stack_change"]
    by_class = zip(chosen["class_accuracy"].items(), real["class_accuracy"].values(), strict=True)
    middle = sorted(changes)[len(changes) // 2]
    rows = [("samples", f"{metrics['guidance']:g}", chosen), ("real, held out", "", real)]
    for row in metrics["sweep"]:
        weight = row["guidance"]
        rows.append(("real, held out", "", row) if weight is None else ("samples", f"{weight:g}", row))
    lines = [
        f"Weights `{metrics['weights_sha256'][:12]}`: {metrics['parameters']:,} parameters, "
        f"{run['step']} training steps, {run['images_seen']:,} images, {run['elapsed'] / 60:.0f} minutes. "
        f"Samples: DDIM, {metrics['steps']} steps, equal numbers of each class.",
        "",
        "| images | guidance | number | classifier accuracy | Frechet distance to real images |",
        "|---|---|---|---|---|",
    ]
    for name, weight, row in rows:
        lines.append(f"| {name} | {weight} | {row['images']} | {row['accuracy']:.1%} | {row['frechet_distance']:.3f} |")
    lines += ["", "| class | samples | real |", "|---|---|---|"]
    lines += [f"| {name} | {ours:.1%} | {theirs:.1%} |" for (name, ours), theirs in by_class]
    lines += ["", "Mean size of the gates, over one trajectory, by block:", ""]
    lines += ["| branch | " + " | ".join(str(k) for k in range(len(features["gates"]["mlp"]))) + " |"]
    lines += ["|---" * (1 + len(features["gates"]["mlp"])) + "|"]
    lines += [f"| {k} | " + " | ".join(f"{v:.3f}" for v in row) + " |" for k, row in features["gates"].items()]
    lines += [
        "",
        "Relative change of the block stack's residual from one step to the next: "
        f"{min(changes):.3f} at least, {middle:.3f} in the middle, {max(changes):.3f} at most.",
    ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=1000, help="images at the chosen guidance")
    parser.add_argument("--sweep", type=float, nargs="*", default=[1.0, 1.5, 2.5, 4.0], help="guidance weights")
    parser.add_argument("--sweep-samples", type=int, default=300, help="images at each weight of the sweep")
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--batch", type=int, default=50, help="a multiple of 10, so that classes stay balanced")
    parser.add_argument("--work", type=Path, default=Path("runs/evaluate"))
    args = parser.parse_args()

    manifest = json.loads((demo.FOLDER / "manifest.json").read_text())["files"]
    digest = manifest["diffusion_pytorch_model.safetensors"]
    folder = args.work / f"{digest[:12]}-{args.steps}"
    model, judge = demo.load_demo_model(), load_judge()
    real, real_labels = IMAGES.draw_balanced(args.samples, REAL_SEED)
    images, labels = sample_set(model, demo.GUIDANCE, args.samples, args.batch, args.steps, folder)
    sweep = []
    for guidance in args.sweep:
        found = sample_set(model, guidance, args.sweep_samples, args.batch, args.steps, folder)
        sweep.append({"guidance": guidance} | judge_samples(judge, *found, demo.CLASS_NAMES))
    if sweep:
        held_out = real[: args.sweep_samples], real_labels[: args.sweep_samples]
        sweep.append({"guidance": None} | judge_samples(judge, *held_out, demo.CLASS_NAMES))
    metrics = {
        "weights_sha256": digest,
        "parameters": sum(p.numel() for p in model.parameters()),
        "training": {
            k: v for k, v in json.loads((demo.FOLDER / "training.json").read_text()).items() if k != "history"
        },
        "steps": args.steps,
        "guidance": demo.GUIDANCE,
        "samples": judge_samples(judge, images, labels, demo.CLASS_NAMES),
        "real": judge_samples(judge, real, real_labels, demo.CLASS_NAMES),
        "sweep": sweep,
        "features": observe_features(model, args.steps, demo.GUIDANCE),
    }
    (demo.FOLDER / "metrics.json").write_text(json.dumps(metrics, indent=1) + "\n")
    card = demo.FOLDER / "README.md"
    card.write_text(replace_figures(card.read_text(), write_figures(metrics)))
    save_sheet(torch.cat([real[:20], images[:60]]), GRID, columns=len(demo.CLASS_NAMES), upper=20)
    print(f"accuracy {metrics['samples']['accuracy']:.1%}, Frechet distance {metrics['samples']['frechet_distance']}")
    print(f"wrote {demo.FOLDER / 'metrics.json'}, {card} and {GRID}")


if __name__ == "__main__":
    main()
