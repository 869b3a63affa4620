"""The shipped model in diffusers' DiTPipeline, uncached and with TaylorSeer.

    python examples/dit_pipeline.py --steps 50 --interval 4 --out samples

Writes samples/uncached.png and samples/cached.png. Nothing is downloaded.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from diffusers import DiTPipeline
from diffusers.models.autoencoders.vae import DecoderOutput
from PIL import Image

import fouriercache as fc
from fouriercache.models.demo import CLASS_NAMES, load_demo_model, load_demo_scheduler


class Pixels:
    """Takes the VAE's place: the shipped model works on pixels, so there is nothing to decode."""

    config = SimpleNamespace(scaling_factor=1.0)

    def decode(self, latents: torch.Tensor) -> DecoderOutput:
        """Return float [n, 3, 32, 32] as it is."""
        return DecoderOutput(sample=latents)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--interval", type=int, default=4)
    parser.add_argument("--out", type=Path, default=Path("samples"))
    given = parser.parse_args(arguments)

    build: Any = DiTPipeline  # it names the VAE it expects, not what it does with it
    pipe = build(transformer=load_demo_model(), vae=Pixels(), scheduler=load_demo_scheduler())
    pipe.set_progress_bar_config(disable=True)

    def sample() -> tuple[np.ndarray, float]:
        """Return float32 [10, 32, 32, 3] in [0, 1], one image of each class, and the seconds it took."""
        started = time.perf_counter()
        images = pipe(
            class_labels=list(range(len(CLASS_NAMES))),
            guidance_scale=1.0,  # DiTPipeline's label for "no class" is ImageNet's, 1000; this model has ten classes
            num_inference_steps=given.steps,
            generator=torch.Generator().manual_seed(0),
            output_type="np",
        ).images
        return np.asarray(images), time.perf_counter() - started

    uncached, uncached_seconds = sample()

    # This line is the whole integration.
    fast = pipe.transformer = fc.optimize(
        pipe.transformer, fc.TaylorSeer(interval=given.interval, order=1), num_steps=given.steps
    )

    sample()  # the first run captures the model
    cached, cached_seconds = sample()

    given.out.mkdir(parents=True, exist_ok=True)
    for name, images in (("uncached", uncached), ("cached", cached)):
        strip = np.concatenate(list(images), axis=1)
        Image.fromarray((strip * 255).round().astype(np.uint8)).save(given.out / f"{name}.png")
    error = np.linalg.norm(cached - uncached) / np.linalg.norm(uncached)
    print(f"sites cached      {len(fast.report.sites)}")
    print(f"steps computed    {len(fast.schedule or ())} of {given.steps}")
    print(f"time              {cached_seconds / uncached_seconds:.2f} of the uncached pipeline's")
    print(f"relative error    {error:.3f} to the uncached images")
    print(f"cache             {fast.cache_bytes / 2**20:.1f} MiB")
    print(f"images in         {given.out}")


if __name__ == "__main__":
    main()
