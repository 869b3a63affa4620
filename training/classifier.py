"""Train the judge of the demo's images: fouriercache/models/judge.safetensors.

    python training/classifier.py

Real images are drawn as they are needed, so none is seen twice, and the held-out ones come from another seed. On half
of the training images the colour channels are shuffled and faded: each class has a favourite hue, and the judge shall
know a class by its shape and texture, not by that hue.

The number of steps and the seed fix the result; `--minutes` only guards against a machine too slow to finish.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import shapes
import torch
from rich.progress import Progress
from safetensors.torch import save_file
from torch import Tensor, nn

from fouriercache.models.judge import WEIGHTS, Judge, Statistics

HELD_OUT_SEED = 900_001
REFERENCE_SEED = 900_002


def draw_balanced(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Draw `count` real images, the classes taking turns.

    Returns:
        images float32 [count, 3, 32, 32] in [-1, 1], labels int64 [count].
    """
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % len(shapes.CLASSES)
    return torch.cat([shapes.draw(part, generator) for part in torch.split(labels, 250)]), labels


def shuffle_colours(images: Tensor, generator: torch.Generator) -> Tensor:
    """On half of the images, permute the colour channels at random and fade them towards grey."""
    n = images.shape[0]
    order = torch.rand(n, 3, generator=generator).argsort(1)
    shuffled = images.gather(1, order[:, :, None, None].expand_as(images))
    fade = torch.rand(n, 1, 1, 1, generator=generator)
    shuffled = shuffled.lerp(shuffled.mean(1, keepdim=True), fade)
    return torch.where(torch.rand(n, 1, 1, 1, generator=generator) < 0.5, shuffled, images)


def train(steps: int, batch: int, minutes: float, seed: int) -> Judge:
    """Train a judge with AdamW and a one-cycle learning rate.

    Raises:
        TimeoutError: the machine would need more than `minutes`.
    """
    torch.manual_seed(seed)
    judge = Judge()
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(judge.parameters(), lr=2e-3, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=2e-3, total_steps=steps)
    started = time.monotonic()
    with Progress() as progress:
        task = progress.add_task("training the judge", total=steps)
        for step in range(steps):
            labels = torch.randint(0, len(shapes.CLASSES), (batch,), generator=generator)
            images = shuffle_colours(shapes.draw(labels, generator), generator)
            loss = nn.functional.cross_entropy(judge(images), labels, label_smoothing=0.05)
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            optimizer.step()
            schedule.step()
            progress.update(task, advance=1, description=f"training the judge, loss {loss.item():.3f}")
            if time.monotonic() - started > minutes * 60:
                raise TimeoutError(f"Stopped at step {step + 1} of {steps} after {minutes} minutes. Raise --minutes.")
    return judge.eval()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=WEIGHTS)
    parser.add_argument("--steps", type=int, default=700)
    parser.add_argument("--batch", type=int, default=96)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()

    judge = train(args.steps, args.batch, args.minutes, args.seed)
    images, labels = draw_balanced(4000, HELD_OUT_SEED)
    _, predicted = judge.measure(images)
    print(f"held-out accuracy {(predicted == labels).double().mean():.4f} on {len(labels)} images")
    for k, name in enumerate(shapes.CLASSES):
        print(f"  {name:18} {(predicted[labels == k] == k).double().mean():.4f}")
    _, predicted = judge.measure(images.mean(1, keepdim=True).expand_as(images))
    print(f"the same images in grey: {(predicted == labels).double().mean():.4f}")

    found, _ = judge.measure(draw_balanced(10_000, REFERENCE_SEED)[0])
    reference = Statistics.of(found)
    judge.reference_mean.copy_(reference.mean)
    judge.reference_covariance.copy_(reference.covariance)
    save_file({k: v.contiguous() for k, v in judge.state_dict().items()}, args.out)
    print(f"wrote {args.out}, {args.out.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
