"""What optimising costs: capture, the passes at several depths, the report, and memory.

The models have the width of DiT-XL/2 and live on the meta device, without weights, but for the last part: there a
process of its own optimises 28 layers with real float32 weights, and its largest resident memory is read.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import torch
from common import BATCH, CLASSES, QUICK, Inputs, Shape, Spread, build_model, read_arguments
from measure import exponent, peak_memory, run_apart, timed
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
    capturing, captured = timed(lambda: capture(model, meta_call(shape), verify=False))
    return [measure_passes(captured, capturing.cpu, layers, site, repeats) for site in SITES]


def measure_passes(captured: Capture, capture_seconds: float, layers: int, site: str, repeats: int) -> dict[str, Any]:
    nodes = sum(1 for _ in captured.program.calls())
    runs = [timed(lambda: build_steps(captured, method(site))) for _ in range(repeats)]
    steps: Steps = runs[-1][1]
    seconds = Spread.of([spent.cpu for spent, _ in runs])
    outline, _ = timed(steps.outline)
    reporting, report = timed(lambda: report_of(steps, method(site)))
    return {
        "layers": layers,
        "site": site,
        "nodes": nodes,
        "capture_seconds": capture_seconds,
        "pass_seconds": seconds.as_dict(),
        "outline_seconds": outline.cpu,
        "per_node_ms": seconds.median / nodes * 1e3,
        "report_seconds": reporting.cpu,
        "sites": len(report.sites),
        "reuse_nodes": sum(1 for _ in steps.modes["reuse"].moving.calls()),
        "reuse_flops_percent": 100 * report.modes["reuse"].flops / report.modes["compute"].flops,
        "modes": {mode: vars(report.modes[mode]) for mode in MODES},
        "moving": {mode: vars(report.moving[mode]) for mode in MODES},
    }


def measure_memory(shape: Shape) -> dict[str, float]:
    """Optimise a model with real weights in this process; return bytes: of its weights, and resident at each stage."""
    imported = peak_memory()
    model = build_model(shape)
    weights = sum(tensor.numel() * tensor.element_size() for tensor in [*model.parameters(), *model.buffers()])
    built = peak_memory()
    inputs = Inputs.draw(shape, steps=4)
    seconds, _ = timed(
        lambda: fc.optimize(model, method("branch"), num_steps=4, example_inputs=inputs.call(inputs.noise, 0))
    )
    return {
        "weights": weights,
        "peak after imports": imported,
        "peak with the model built": built,
        "peak after optimize": peak_memory(),
        "optimize_seconds": seconds.cpu,
    }


def main() -> None:
    asked = read_arguments(__doc__)
    width, depths, repeats = (QUICK, (2, 3), 1) if asked.quick else (XL2, DEPTHS, REPEATS)
    measure_depth(width, depths[0], 1)  # what torch does once in a process is not part of any depth
    rows = [row for layers in depths for row in measure_depth(width, layers, repeats)]
    memory = run_apart(__file__, MEMORY_FLAG, *(["--quick"] if asked.quick else []))  # whose peak is no one else's
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
        mine = [row for row in rows if row["site"] == site]
        growth = exponent([row["layers"] for row in mine], [row["pass_seconds"]["median"] for row in mine])
        result.checks.append(Check(f"{site} sites: passes take depth ** this", growth, LARGEST_EXPONENT))
    ratio = memory["peak after optimize"] / memory["weights"]
    result.checks.append(Check("largest memory of optimize over the weights", ratio, LARGEST_MEMORY))
    result.write(asked.out)


if __name__ == "__main__":
    if MEMORY_FLAG in sys.argv:
        print(json.dumps(measure_memory(QUICK if "--quick" in sys.argv else XL2)))
    else:
        main()
