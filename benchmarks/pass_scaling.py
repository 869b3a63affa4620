"""What optimising costs: capture, the passes at several depths, the report, and memory.

The models have the width of DiT-XL/2 and live on the meta device, without weights, but for the last part: there a
process of its own optimises 28 layers with real float32 weights, and its largest resident memory is read.
"""

from __future__ import annotations

import gc
import json
import math
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from common import BATCH, CLASSES, QUICK, Inputs, Shape, Spread, build_model, read_arguments
from results import Check, Column, Result

import fouriercache as fc
from fouriercache.capture import Capture, capture
from fouriercache.passes.pipeline import build_steps
from fouriercache.runtime.report import report_of
from fouriercache.steps import MODES, Steps

XL2 = Shape(layers=28, heads=16, head_size=72, latent=32)
DEPTHS = (7, 14, 28, 56)
REPEATS = 3
SITES = ("branch", "stack")
LONGEST = 5.0
"""Seconds that all passes may take on 28 layers."""
LARGEST_EXPONENT = 1.15
"""Time grows as depth ** exponent; linear is 1, and a quadratic step in a linear whole would show above this."""
LARGEST_MEMORY = 2.0
"""Largest resident memory of `optimize`, in times the weights."""

COLUMNS = (
    Column("layers", "layers", "d"),
    Column("site", "sites"),
    Column("nodes", "captured calls", "d"),
    Column("capture_seconds", "capture, s", ".2f"),
    Column("pass_seconds", "all passes, s", ".2f"),
    Column("outline_seconds", "single graph, s", ".2f"),
    Column("per_node_ms", "passes, ms a call", ".3f"),
    Column("report_seconds", "report, s", ".3f"),
    Column("sites", "sites found", "d"),
    Column("reuse_nodes", "calls in a cached step", "d"),
    Column("reuse_flops_percent", "FLOPs of a cached step, %", ".3f"),
)
MEMORY_FLAG = "--measure-memory"


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    """Run `work`; return the process's CPU seconds and what it returned: nothing in it waits or uses a second core.

    What is there already is kept out of Python's garbage collection: its full rounds take time by the whole heap, and
    come when they like.
    """
    gc.collect()
    gc.freeze()
    started = time.process_time()
    found = work()
    seconds = time.process_time() - started
    gc.unfreeze()
    return seconds, found


def method(site: str) -> fc.Method:
    return fc.TaylorSeer(interval=4, order=1, site=site)


def meta_call(shape: Shape) -> dict[str, torch.Tensor]:
    """One call of a DiT on the meta device."""
    return {
        "hidden_states": torch.empty(BATCH, 4, shape.latent, shape.latent, device="meta"),
        "timestep": torch.empty(BATCH, dtype=torch.int64, device="meta"),
        "class_labels": torch.empty(BATCH, dtype=torch.int64, device="meta"),
    }


def measure_depth(width: Shape, layers: int, repeats: int) -> list[dict[str, Any]]:
    """Capture one depth, and run all passes for each kind of site."""
    shape = Shape(layers, width.heads, width.head_size, width.latent)
    with torch.device("meta"):
        model = build_model(shape)
    capture_seconds, captured = timed(lambda: capture(model, meta_call(shape), verify=False))
    return [measure_passes(captured, capture_seconds, layers, site, repeats) for site in SITES]


def measure_passes(captured: Capture, capture_seconds: float, layers: int, site: str, repeats: int) -> dict[str, Any]:
    nodes = sum(1 for _ in captured.program.calls())
    runs = [timed(lambda: build_steps(captured, method(site))) for _ in range(repeats)]
    steps: Steps = runs[-1][1]
    seconds = Spread.of([duration for duration, _ in runs])
    outline_seconds, _ = timed(steps.outline)
    report_seconds, report = timed(lambda: report_of(steps, method(site)))
    return {
        "layers": layers,
        "site": site,
        "nodes": nodes,
        "capture_seconds": capture_seconds,
        "pass_seconds": seconds.as_dict(),
        "outline_seconds": outline_seconds,
        "per_node_ms": seconds.median / nodes * 1e3,
        "report_seconds": report_seconds,
        "sites": len(report.sites),
        "reuse_nodes": sum(1 for _ in steps.modes["reuse"].moving.calls()),
        "reuse_flops_percent": 100 * report.modes["reuse"].flops / report.modes["compute"].flops,
        "modes": {mode: vars(report.modes[mode]) for mode in MODES},
        "moving": {mode: vars(report.moving[mode]) for mode in MODES},
    }


def exponent(rows: list[dict[str, Any]], site: str) -> float:
    """Slope of log time over log depth, by least squares."""
    mine = [row for row in rows if row["site"] == site]
    x = [math.log(row["layers"]) for row in mine]
    y = [math.log(row["pass_seconds"]["median"]) for row in mine]
    mean_x, mean_y = sum(x) / len(x), sum(y) / len(y)
    return sum((a - mean_x) * (b - mean_y) for a, b in zip(x, y, strict=True)) / sum((a - mean_x) ** 2 for a in x)


def measure_memory(shape: Shape) -> dict[str, float]:
    """Optimise a model with real weights in this process; return bytes: of its weights, and resident at each stage."""

    def peak() -> int:
        largest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return largest if sys.platform == "darwin" else largest * 1024

    imported = peak()
    model = build_model(shape)
    weights = sum(tensor.numel() * tensor.element_size() for tensor in [*model.parameters(), *model.buffers()])
    built = peak()
    inputs = Inputs.draw(shape, steps=4)
    seconds, _ = timed(
        lambda: fc.optimize(model, method("branch"), num_steps=4, example_inputs=inputs.call(inputs.noise, 0))
    )
    return {
        "weights": weights,
        "peak after imports": imported,
        "peak with the model built": built,
        "peak after optimize": peak(),
        "optimize_seconds": seconds,
    }


def measure_memory_apart(*, quick: bool) -> dict[str, float]:
    """`measure_memory` in a fresh process, whose peak is no one else's."""
    command = [sys.executable, str(Path(__file__).resolve()), MEMORY_FLAG, *(["--quick"] if quick else [])]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"measuring memory failed:\n{done.stderr}")
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> None:
    asked = read_arguments(__doc__)
    width, depths, repeats = (QUICK, (2, 3), 1) if asked.quick else (XL2, DEPTHS, REPEATS)
    measure_depth(width, depths[0], 1)  # what torch does once in a process is not part of any depth
    rows = [row for layers in depths for row in measure_depth(width, layers, repeats)]
    memory = measure_memory_apart(quick=asked.quick)
    result = Result(
        "pass_scaling",
        "What optimising costs",
        f"DiT of width {width.heads * width.head_size} on the meta device, batch {BATCH}, dynamic. Times are CPU "
        "seconds. Capture is torch.export; the passes make the canonical graph, both step modes and their parts. "
        f"Median and quartiles of {repeats} runs of all passes on one capture; the single graph, with one cond, is "
        "built when it is asked for. Garbage collection sees only what the timed work makes. Memory: "
        f"{depths[-2]} layers with real float32 weights in a process of their own; the largest resident memory from "
        "start to the end of `optimize`, verification of the capture included.",
        {"width": width.heads * width.head_size, "heads": width.heads, "classes": CLASSES, "repeats": repeats,
         "method": repr(method("branch")), "memory": memory},
        COLUMNS,
        list(rows),
    )  # fmt: skip
    for site in SITES:
        (row,) = (row for row in rows if (row["layers"], row["site"]) == (depths[-2], site))
        seconds = row["pass_seconds"]["median"] + row["outline_seconds"]
        result.checks.append(Check(f"{site} sites, {depths[-2]} layers: seconds for all passes, those of the single "
                                   "graph included", seconds, LONGEST))  # fmt: skip
        growth = exponent(rows, site)
        result.checks.append(Check(f"{site} sites: passes take depth ** this", growth, LARGEST_EXPONENT))
    ratio = memory["peak after optimize"] / memory["weights"]
    result.checks.append(Check("largest memory of optimize over the weights", ratio, LARGEST_MEMORY))
    result.write(asked.out)


if __name__ == "__main__":
    if MEMORY_FLAG in sys.argv:
        print(json.dumps(measure_memory(QUICK if "--quick" in sys.argv else XL2)))
    else:
        main()
