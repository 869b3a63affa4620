"""Train the judge of the demo's images or videos: judge.safetensors or video_judge.safetensors in fouriercache/models.

    python training/classifier.py
    python training/classifier.py --videos --steps 300 --batch 64

Real samples are drawn as they are needed, so none is seen twice, and the held-out ones come from another seed. On half
of the training samples the colour channels are shuffled and faded: each class has a favourite hue, and the judge shall
know a class by its shape, texture and motion, not by that hue.

The number of steps and the seed fix the result; `--minutes` only guards against a machine too slow to finish.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import moving_shapes
import shapes
import torch
from rich.progress import Progress
from safetensors.torch import save_file
from torch import Tensor, nn

from fouriercache.models.judge import VIDEO_WEIGHTS, WEIGHTS, ImageJudge, Judge, Statistics, VideoJudge

HELD_OUT_SEED = 900_001
REFERENCE_SEED = 900_002


@dataclass(frozen=True)
class Subject:
    """What a judge is trained on: images, or videos."""

    new_judge: Callable[[], Judge]
    draw: Callable[[Tensor, torch.Generator], Tensor]
    classes: tuple[str, ...]
    weights: Path

    def draw_balanced(self, count: int, seed: int) -> tuple[Tensor, Tensor]:
        """Draw `count` real samples, the classes taking turns.

        Returns:
            samples float32 [count, 3, ...] in [-1, 1], labels int64 [count].
        """
        generator = torch.Generator().manual_seed(seed)
        labels = torch.arange(count) % len(self.classes)
        return torch.cat([self.draw(part, generator) for part in torch.split(labels, 250)]), labels


IMAGES = Subject(ImageJudge, shapes.draw, shapes.CLASSES, WEIGHTS)
VIDEOS = Subject(VideoJudge, moving_shapes.draw, moving_shapes.CLASSES, VIDEO_WEIGHTS)


def shuffle_colours(images: Tensor, generator: torch.Generator) -> Tensor:
    """On half of the images or videos, permute the colour channels at random and fade them towards grey."""
    n, each = images.shape[0], (-1, *[1] * (images.ndim - 1))
    order = torch.rand(n, 3, generator=generator).argsort(1)
    shuffled = images.gather(1, order.view(n, 3, *each[2:]).expand_as(images))
    fade = torch.rand(n, generator=generator).view(each)
    shuffled = shuffled.lerp(shuffled.mean(1, keepdim=True), fade)
    return torch.where((torch.rand(n, generator=generator) < 0.5).view(each), shuffled, images)


def train(subject: Subject, steps: int, batch: int, minutes: float, seed: int) -> Judge:
    """Train a judge with AdamW and a one-cycle learning rate.

    Raises:
        TimeoutError: the machine would need more than `minutes`.
    """
    torch.manual_seed(seed)
    judge = subject.new_judge()
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(judge.parameters(), lr=2e-3, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=2e-3, total_steps=steps)
    started = time.monotonic()
    with Progress() as progress:
        task = progress.add_task("training the judge", total=steps)
        for step in range(steps):
            labels = torch.randint(0, len(subject.classes), (batch,), generator=generator)
            images = shuffle_colours(subject.draw(labels, generator), generator)
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
    parser.add_argument("--videos", action="store_true", help="the judge of videos instead of that of images")
    parser.add_argument("--out", type=Path, help="beside the package's own judges if not given")
    parser.add_argument("--steps", type=int, default=700)
    parser.add_argument("--batch", type=int, default=96)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--held-out", type=int, default=4000, help="samples that accuracy is measured on")
    parser.add_argument("--reference", type=int, default=10_000, help="samples of the reference statistics")
    args = parser.parse_args()

    subject = VIDEOS if args.videos else IMAGES
    out = args.out or subject.weights
    judge = train(subject, args.steps, args.batch, args.minutes, args.seed)
    samples, labels = subject.draw_balanced(args.held_out, HELD_OUT_SEED)
    _, predicted = judge.measure(samples)
    print(f"held-out accuracy {(predicted == labels).double().mean():.4f} on {len(labels)} samples")
    for k, name in enumerate(subject.classes):
        print(f"  {name:24} {(predicted[labels == k] == k).double().mean():.4f}")
    _, predicted = judge.measure(samples.mean(1, keepdim=True).expand_as(samples))
    print(f"the same in grey: {(predicted == labels).double().mean():.4f}")

    found, _ = judge.measure(subject.draw_balanced(args.reference, REFERENCE_SEED)[0])
    reference = Statistics.of(found)
    judge.reference_mean.copy_(reference.mean)
    judge.reference_covariance.copy_(reference.covariance)
    save_file({k: v.contiguous() for k, v in judge.state_dict().items()}, out)
    print(f"wrote {out}, {out.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
