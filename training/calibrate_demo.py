"""Calibrate the shipped model: the step tables of the method Tuned, for the demo and the evidence.

    python training/calibrate_demo.py

Eight images of eight classes, one noise seed; two classes stay unseen. Every measurement is kept under --work, so a
broken run continues. Writes fouriercache/models/demo_dit/calibration.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import fouriercache as fc
from fouriercache.models import demo

STEPS, CLASSES, SEED = 50, 8, 3_001


def sample(denoiser: Any) -> Tensor:
    """The calibration set, float32 [8, 3, 32, 32]."""
    noise = torch.randn(CLASSES, *demo.SHAPE, generator=torch.Generator().manual_seed(SEED))
    return demo.sample(denoiser, demo.load_demo_scheduler(), torch.arange(CLASSES), noise, num_steps=STEPS)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=50, help="tables that each search may try")
    parser.add_argument("--work", type=Path, default=Path("runs/calibrate_demo"))
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    model, scheduler = demo.load_demo_model(), demo.load_demo_scheduler()
    scheduler.set_timesteps(STEPS)
    folder = demo.FOLDER / "calibration"
    folder.mkdir(exist_ok=True)
    for computed in demo.CALIBRATED:
        path = folder / f"tuned-{computed}.safetensors"
        found = fc.calibrate(
            model,
            fc.Tuned(),
            num_steps=STEPS,
            steps=computed,
            sample=sample,
            scheduler=scheduler,
            start=fc.Calibration.load(path).steps if path.is_file() else None,
            trials=args.trials,
            checkpoint=args.work / "measured.safetensors",
        )
        found.save(path)
        print(f"{computed} of {STEPS}: {found.steps}, error {found.errors['found']:.4f}, wrote {path}")


if __name__ == "__main__":
    main()
