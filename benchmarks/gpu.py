"""Everything on one GPU in one call: eager, CUDA graphs, inductor; DiT-XL/2 and FLUX.1-dev's shape in bfloat16.

    PYTHONPATH=. python benchmarks/gpu.py --minutes 8

Needs torch, numpy and safetensors beside this repository; the models are plain modules with random weights. Sections
come in the order of their worth. One that the minutes are not enough for is skipped, and a line says so; the results
are written after each, so a run that is cut off leaves what it has. See docs/gpu.md.

No GPU has run this yet: `--device cpu --quick` has, which is the same code at tiny sizes.
"""

from __future__ import annotations

import gc
import sys
import time
import traceback
from argparse import Namespace
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch
from chips import Chip, Cpu, Gpu
from common import argument_parser
from gpu_checks import AMPLIFIED, STEPS, check_case, check_counter
from gpu_loops import FLOOR, Case, build_model, distance, draw_case, list_entries, run_loop, take_rounds
from gpu_rows import COLUMNS, describe
from plain import DIT_TINY, DIT_XL, FLUX_DEV, FLUX_TINY, Shape
from results import Check, Result
from torch import nn

from fouriercache.capture import Capture

STARTED = time.monotonic()
DTYPE = torch.bfloat16
PLAIN, COMPILED = ("eager", "cudagraphs"), ("eager", "inductor", "inductor+cudagraphs")

ABOUT = (
    "Each row is a way to run a whole denoising loop, prepared where it is ours; 13 of 50 steps are computed where it "
    "is cached. All rows of a model and backend take turns in one process, the original in eager twice in each round; "
    "medians and quartiles over the rounds. *Steps* are timed on the device, from the end of one to the end of the "
    "next. *Loop / uncached* is against the original in eager, *time / ideal* against the original on the same "
    "backend. *Waits* are how often the host waits for the device in a step: reading a timestep that lies on the "
    "device, and is no view of a list, is one. *Peak* is what a loop allocates over what was there before it, weights "
    "and recordings left out. *Predicted* is `fast.report.cost` from the data sheet, before anything ran. *Error* is "
    "of the final latents to the uncached loop's, over what the loop has changed; the weights are random, so it "
    "compares ways of running one method, not methods."
)


@dataclass
class Bench:
    """What the sections share.

    Attributes:
        rounds: of loops. steps: of a loop. ends: when the minutes are over.
        models: that were built, with their captures, by shape and whether timesteps are on the host.
    """

    chip: Chip
    result: Result
    rounds: int
    steps: int
    ends: float
    is_quick: bool
    models: dict[Shape, nn.Module] = field(default_factory=dict)
    captures: dict[tuple[Shape, bool], Capture] = field(default_factory=dict)

    def left(self) -> float:
        """Seconds."""
        return self.ends - time.monotonic()

    def case(self, shape: Shape, batch: int, steps: int) -> Case:
        """A model, built once, and the inputs of a batch."""
        if shape not in self.models:
            self.models[shape] = build_model(shape, self.chip.device, DTYPE)
        return draw_case(shape, self.models[shape], batch, steps, self.chip.device, DTYPE)

    def capture(self, case: Case, *, on_host: bool) -> Capture:
        """A model's graph, captured once for all batches."""
        key = (case.shape, on_host and self.chip.device.type == "cuda")  # else the host is the device
        if key not in self.captures:
            started = time.monotonic()
            self.captures[key] = case.capture(on_host=on_host)
            print(f"  captured in {time.monotonic() - started:.1f} s", flush=True)
        return self.captures[key]

    def forget(self, shape: Shape) -> None:
        """Give a model's memory back."""
        self.models.pop(shape, None)
        self.captures = {key: kept for key, kept in self.captures.items() if key[0] != shape}


@dataclass(frozen=True)
class Section:
    """A part of the run. `needs`: seconds that it takes on a data-center GPU, about; with fewer left it is skipped."""

    name: str
    needs: float
    run: Callable[[Bench], None]


def check(bench: Bench, shape: Shape) -> None:
    """Correctness of a shallow model of the same width."""
    case = bench.case(shape.shallow(), 2, STEPS)
    captured = bench.capture(case, on_host=False)
    bench.result.checks += check_case(case, captured, bench.chip, ("eager",) if bench.is_quick else PLAIN)
    if not bench.is_quick:
        bench.forget(case.shape)


def count(bench: Bench) -> None:
    """Whether the counter of waits counts."""
    bench.result.checks += check_counter(bench.chip)


def measure(
    bench: Bench, shape: Shape, batch: int, backends: Sequence[str], *, with_host: bool = False, is_last: bool = False
) -> None:
    """Rows of one model at one batch; of backends that are there for comparison alone, eager in COMPILED, none."""
    case = bench.case(shape, batch, bench.steps)
    captured = bench.capture(case, on_host=False)
    on_host = bench.capture(case, on_host=True) if with_host else None
    entries = list_entries(case, captured, backends, on_host)
    for entry in entries:
        started = time.monotonic()
        run_loop(case, entry, bench.chip)
        run_loop(case, entry, bench.chip)
        print(f"  {entry.name}: ready in {time.monotonic() - started:.1f} s", flush=True)
    spare = 0 if bench.is_quick else 20
    timings = take_rounds(case, entries, bench.chip, bench.rounds, lambda: bench.left() > spare)
    device = bench.chip.sheet()
    shown = [entry for entry in entries if "inductor" not in "".join(backends) or entry.backend != "eager"]
    rows = [describe(case, entry, timings, bench.chip, device) for entry in shown]
    bench.result.rows += rows
    ours, floor = (timings[name][-1].latents for name in ("stack, FORA, eager", FLOOR))
    what = f"{shape.name}, batch {batch}: residual of all blocks, ours in eager against the one by hand"
    bench.result.checks.append(Check(what, distance(ours, floor, case.noise), torch.finfo(DTYPE).eps))
    rounding = {row["name"]: row["error"] for row in rows}  # of an uncached loop on another backend: that alone
    for entry, row in zip(shown, rows, strict=True):
        what = f"{shape.name}, batch {batch}, {entry.name}"
        if row["drift"] is not None and "inductor" in entry.backend:
            relative = row["drift"] / max(rounding[entry.reference], 1e-6)
            bench.result.checks.append(Check(f"{what}: difference to eager, over the model's own", relative, AMPLIFIED))
        elif row["drift"] is not None:
            bench.result.checks.append(Check(f"{what}: difference to eager", row["drift"], 0))
        if entry.on_host and row["waits"] is not None:
            bench.result.checks.append(Check(f"{what}: waits in a step", row["waits"], 0))
            if row["waits_checked"] is not None:
                bench.result.checks.append(Check(f"{what}: waits in a step, looking for NaN", row["waits_checked"], 0))
    if is_last:
        bench.forget(shape)


def sections(bench: Bench) -> list[Section]:
    """All of them, the worthiest first."""
    if bench.is_quick:
        return [
            Section("counter", 0, count),
            *(Section(f"check {shape.name}", 0, partial(check, shape=shape)) for shape in (DIT_TINY, FLUX_TINY)),
            Section("DiT", 0, partial(measure, shape=DIT_TINY, batch=2, backends=("eager",), with_host=True)),
            Section("FLUX", 0, partial(measure, shape=FLUX_TINY.shallow(), batch=1, backends=("eager",))),
        ]
    dit = partial(measure, shape=DIT_XL)
    part = replace(FLUX_DEV, dual=4, single=8)
    return [
        Section("counter", 0, count),
        Section("check DiT", 20, partial(check, shape=DIT_XL)),
        Section("check FLUX", 25, partial(check, shape=FLUX_DEV)),
        Section("DiT, full chip", 60, partial(dit, batch=64, backends=PLAIN)),
        Section("FLUX", 110, partial(measure, shape=FLUX_DEV, batch=1, backends=PLAIN, is_last=True)),
        # where it shows most: the host is the slower one
        Section("DiT, small batch", 50, partial(dit, batch=2, backends=PLAIN, with_host=True)),
        Section("DiT, inductor", 120, partial(dit, batch=64, backends=COMPILED, is_last=True)),
        Section("a part of FLUX, inductor", 90, partial(measure, shape=part, batch=1, backends=COMPILED, is_last=True)),
    ]


def run_sections(bench: Bench, wanted: Sequence[Section], asked: Namespace) -> tuple[list[str], list[str]]:
    """Run what there is time for, and write the result after each; return who was skipped and who failed."""
    skipped, failed = [], []
    for section in wanted:
        left = bench.left()
        if left < section.needs:
            print(f"skipped: {section.name} needs some {section.needs:.0f} s, {left:.0f} s are left", flush=True)
            skipped.append(section.name)
        else:
            print(f"{section.name}, {left:.0f} s left", flush=True)
            try:
                section.run(bench)
            except Exception:  # noqa: BLE001  # what breaks in one section must not cost the others, and is a failed check
                traceback.print_exc()
                failed.append(section.name)
            gc.collect()
            if bench.chip.device.type == "cuda":
                torch.cuda.empty_cache()
        _write(bench.result, skipped, failed, asked)
    return skipped, failed


def _write(result: Result, skipped: Sequence[str], failed: Sequence[str], asked: Namespace) -> None:
    whole = [
        Check(f"sections that failed{': ' * bool(failed)}{', '.join(failed)}", len(failed), 0),
        Check(f"sections that were skipped{': ' * bool(skipped)}{', '.join(skipped)}", len(skipped), 0),
    ]
    replace(result, checks=[*result.checks, *whole]).write_files(asked.out)


def main() -> None:
    parser = argument_parser(__doc__)
    parser.add_argument("--device", choices=("cuda", "cpu"), help="where to run; a GPU if there is one")
    parser.add_argument("--minutes", type=float, default=8, help="for the whole run; what is left then is skipped")
    parser.add_argument("--only", nargs="+", metavar="SECTION", help="these sections alone, by name")
    asked = parser.parse_args()
    kind = asked.device or ("cuda" if torch.cuda.is_available() else "cpu")
    if kind == "cuda" and not torch.cuda.is_available():
        sys.exit("torch finds no CUDA device.")
    if kind == "cpu" and not asked.quick:
        sys.exit("There is no GPU here. Try the script itself with --device cpu --quick.")
    chip: Chip = Gpu() if kind == "cuda" else Cpu()
    rounds, steps = (2, 8) if asked.quick else (5, 50)
    settings: dict[str, Any] = {**chip.facts(), "dtype": "bfloat16", "steps": steps, "rounds": f"up to {rounds}"}
    result = Result("gpu", "On one GPU", ABOUT, settings, COLUMNS)
    bench = Bench(chip, result, rounds, steps, STARTED + 60 * asked.minutes, asked.quick)
    known = sections(bench)
    names = [section.name for section in known]
    unknown = sorted({*(asked.only or ())} - {*names})
    if unknown:
        sys.exit(f"There is no section {', '.join(unknown)}. There are: {'; '.join(names)}.")
    wanted = [section for section in known if asked.only is None or section.name in asked.only]
    _, failed = run_sections(bench, wanted, asked)
    print((asked.out / "gpu.md").read_text())
    if failed:
        sys.exit(1)


if __name__ == "__main__":
    main()
