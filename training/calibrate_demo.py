"""Calibrate the shipped model: the step tables of the method Tuned, for the demo and the evidence.

    python training/calibrate_demo.py

Eight images of eight classes, one noise seed; two classes stay unseen. Tables are found at the usual guidance weight.
Where so few steps are computed that a table alone does not do at other weights, the scalars of its predictions are
refined on the same images at two weights. Every measurement is kept under --work, so a broken run continues. Writes
fouriercache/models/demo_dit/calibration.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import fouriercache as fc
from fouriercache.calibration.loop import relative_error
from fouriercache.models import demo

STEPS, CLASSES, SEED = 50, 8, 3_001
REFINED = (7,)
"""Numbers of computed steps whose scalars are refined."""


def set_at(weights: Sequence[float]) -> Callable[[Any], Tensor]:
    """The calibration set at these guidance weights: a function that samples it, float32 [8 for each, 3, 32, 32]."""
    noise = torch.randn(CLASSES, *demo.SHAPE, generator=torch.Generator().manual_seed(SEED))
    scheduler, labels = demo.load_demo_scheduler(), torch.arange(CLASSES)

    def sample(denoiser: Any) -> Tensor:
        return torch.cat(
            [demo.sample(denoiser, scheduler, labels, noise, num_steps=STEPS, guidance=weight) for weight in weights]
        )

    return sample


def refined(model: Any, found: fc.Calibration, work: Path) -> fc.Calibration:
    """The same with scalars that are refined at two guidance weights; their error is that at the usual one."""
    given: Any = {"num_steps": STEPS, "steps": found.steps, "sample": set_at(demo.CALIBRATED_GUIDANCE)}
    both = fc.calibrate(model, fc.Tuned(), **given, refine=1, checkpoint=work / "refined.safetensors")
    better, usual = replace(found, scalars=both.scalars), set_at([demo.GUIDANCE])
    error = relative_error(usual(fc.optimize(model, fc.Tuned(), calibration=better)), usual(model))
    return replace(better, errors={**found.errors, "refined": error})


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
            sample=set_at([demo.GUIDANCE]),
            scheduler=scheduler,
            start=fc.Calibration.load(path).steps if path.is_file() else None,
            trials=args.trials,
            checkpoint=args.work / "measured.safetensors",
        )
        if computed in REFINED:
            found = refined(model, found, args.work)
        found.save(path)
        print(f"{computed} of {STEPS}: {found.steps}, errors {dict(found.errors)}, wrote {path}")


if __name__ == "__main__":
    main()
