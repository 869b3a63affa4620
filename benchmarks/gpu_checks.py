"""Correctness first: a model on the device in its dtype, cached and not, against the same in float32 on the CPU."""

from __future__ import annotations

import torch
from chips import Chip, Cpu
from gpu_loops import Case, Entry, cached, distance, draw_case, run_loop, uncached
from results import Check
from torch import Tensor

import fouriercache as fc
from fouriercache.capture import Capture
from fouriercache.optimize import optimize_captured

STEPS = 8
AMPLIFIED = 2.5
"""How much more rounding a cached loop may have than the model itself: an extrapolation of order 1 over three steps of
an interval of 4 is 1.75 times the newest feature less 0.75 times the one before, and the roundings may add up."""


@torch.no_grad()
def check_case(here: Case, captured: Capture, chip: Chip, backends: tuple[str, ...]) -> list[Check]:
    """Compare a small model with itself: interval 1 with its own values, and loops with those in float32 on the CPU."""
    name = here.shape.name
    reference = here.shape.build().eval().requires_grad_(False)
    reference.load_state_dict({name: value.cpu() for name, value in here.model.state_dict().items()})
    there = draw_case(here.shape, reference, len(here.noise), here.steps, Cpu.device, here.dtype)
    found = [Check(f"{name}: interval 1, values that are not the model's own", _differing(here, captured), 0)]
    own = _loops(here, captured, chip, backends)
    exact = _loops(there, there.capture(), Cpu(), ("eager",))
    rounding = distance(own["original, eager"], exact["original, eager"], there.noise)
    for loop, latents in own.items():
        kind = loop.rpartition(", ")[0]
        want = exact[f"{kind}, eager"]
        error = distance(latents, want, there.noise)
        changed = distance(want, exact["original, eager"], there.noise)
        print(f"  {name}, {loop}: {error:.2e} from float32; caching changes {changed:.2e}", flush=True)
        limit = AMPLIFIED if kind != "original" else 1.5
        found.append(Check(f"{name}, {loop}: error to float32, over the model's own", error / rounding, limit))
    return found


def _differing(case: Case, captured: Capture) -> int:
    """Values of a loop's outputs, computed in full at every step, that differ from those of the model itself."""
    every = fc.FORA(interval=1)
    fast = optimize_captured(case.model, captured, every, example_inputs=case.call(case.noise, 0), num_steps=case.steps)
    latents, count = case.noise, 0
    for step in range(case.steps):
        want = case.model(**case.call(latents, step))
        count += int((fast(**case.call(latents, step)) != want).sum())
        latents = latents - want.float() / case.steps
    return count


def _loops(case: Case, captured: Capture, chip: Chip, backends: tuple[str, ...]) -> dict[str, Tensor]:
    """The final latents of the loops of a case, by name, each the second time: recordings are replayed by then."""
    entries: list[Entry] = []
    for backend in backends:
        entries += [uncached(case, captured, backend), *cached(case, captured, backend, on_host=False)]
    for entry in entries:
        run_loop(case, entry, chip)
    return {entry.name: run_loop(case, entry, chip).latents for entry in entries}


def check_counter(chip: Chip) -> list[Check]:
    """Whether a read of a value is seen as a wait, where waits are counted."""
    number = torch.ones(1, device=chip.device)
    seen = chip.waits(number.item)
    return [] if seen is None else [Check("reads of a value that were not seen, of one", 1 - seen, 0)]
