"""The shipped model as a calibration set, and how long calibrating on it takes."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from fouriercache.models.demo import CLASS_NAMES, SHAPE, load_demo_scheduler, sample


def demo_set(*, images: int, seed: int, steps: int, guidance: Sequence[float]) -> Callable[[nn.Module], Tensor]:
    """Return a function that samples `images` images with the denoiser it is given, at each guidance weight.

    Their classes take turns.
    """
    labels = torch.arange(images) % len(CLASS_NAMES)
    noise = torch.randn(images, *SHAPE, generator=torch.Generator().manual_seed(seed))
    scheduler = load_demo_scheduler()

    def run(denoiser: nn.Module) -> Tensor:
        return torch.cat(
            [sample(denoiser, scheduler, labels, noise, num_steps=steps, guidance=weight) for weight in guidance]
        )

    return run


def count_calls(*, num_steps: int, steps: int, probes: int, trials: int, refine: int) -> int:
    """Return how many computed denoiser calls `calibrate` makes at most with these arguments, for one guidance weight.

    Predicted ones count as nothing.

    One uncached run, one to compare the perturbed ones with, a run for each probe, up to three start tables, the
    trials, two neighbours a step, and two factors a gap with three lengths and a check for each round of refining.
    """
    refining = (2 * steps + 4) * refine + 2 * bool(refine)
    return num_steps + steps * (1 + probes + 3 + trials + 2 * (steps - 1) + refining)


def seconds_of_a_call(model: nn.Module, run: Callable[[nn.Module], Tensor]) -> float:
    """Return the seconds that the second call of a run takes; the run ends with it."""
    times: list[float] = []

    def stop(*_: object) -> None:
        times.append(time.perf_counter())
        if len(times) == 2:
            raise _EnoughError

    hook = model.register_forward_hook(stop)
    try:
        run(model)
    except _EnoughError:
        return times[1] - times[0]
    finally:
        hook.remove()
    raise ValueError("a run of one step has no second call to time")


class _EnoughError(Exception):
    """Ends a run that was only timed."""
