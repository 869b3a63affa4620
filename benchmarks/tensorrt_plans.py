"""What ships of a full-size model: DiT-XL/2 in float16 with random weights, as ONNX and as TensorRT-RTX plans.

No GPU is needed: plans are built ahead of time, and their facts read out of them. Nothing is run, so no number here
says how fast a plan is.
"""

from __future__ import annotations

import resource
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from common import BATCH, CLASSES, QUICK, Shape, build_model, read_arguments
from results import Check, Column, Result

import fouriercache as fc
from fouriercache.export.tensorrt import Plan, Profile, build_plan, plan_facts, target_from_name

XL2 = Shape(layers=28, heads=16, head_size=72, latent=32)
TARGET = "tensorrt:sm89"
PROFILE = Profile(BATCH, BATCH, BATCH)
NUM_STEPS = 50
LARGEST_MODEL = 5e6
"""Bytes of an ONNX file without its weights."""
LONGEST_EXPORT = 180
"""Seconds of one core that one step mode may take."""
MOST_WEIGHTS = 1.02
"""What is stored of weights, on disk and in a plan, in times of those of the model."""

COLUMNS = (
    Column("graph", "graph"),
    Column("onnx_bytes", "ONNX without weights, bytes", ",d"),
    Column("export_seconds", "export, s", ".1f"),
    Column("export_core_seconds", "of one core, s", ".1f"),
    Column("plan_bytes", "plan, bytes", ",d"),
    Column("build_seconds", "build, s", ".1f"),
    Column("weight_bytes", "weights in the plan, bytes", ",d"),
    Column("activation_mb", "activations, MB", ".1f"),
    Column("capturable", "capturable"),
    Column("host_branches", "branches on the host", "d"),
    Column("copies", "copies", "d"),
    Column("gemms", "matrix products", "d"),
    Column("fused_attention", "attention kernels", "d"),
)


class Clock:
    """Seconds that each file of an export took, by the name that the export says when it begins with it.

    By the clock on the wall, and of a core: the first is longer on a machine that others use.
    """

    def __init__(self) -> None:
        self._last: tuple[str, float, float] | None = None
        self.seconds: dict[str, float] = {}
        self.core_seconds: dict[str, float] = {}

    def notice(self, name: str) -> None:
        """Begin the file called `name`; "" ends the last one."""
        now, spent = time.perf_counter(), time.process_time()
        if self._last is not None:
            last, began, spent_before = self._last
            self.seconds[last], self.core_seconds[last] = now - began, spent - spent_before
        self._last = name, now, spent


def call_of(shape: Shape) -> dict[str, torch.Tensor]:
    """Return the keyword arguments of one call, in float16."""
    sample = torch.randn(BATCH, 4, shape.latent, shape.latent, generator=torch.Generator().manual_seed(0))
    return {
        "hidden_states": sample.half(),
        "timestep": torch.full((BATCH,), 500),
        "class_labels": torch.tensor([1, CLASSES]),
    }


def measure(shape: Shape, folder: Path) -> Result:
    """Optimise, export, build a plan of each graph, and read what it says of itself."""
    model = build_model(shape).half()
    stored = sum(weight.nbytes for weight in model.state_dict().values())
    method = fc.TaylorSeer(interval=4, order=1, site="stack")
    fast = fc.optimize(model, method, num_steps=NUM_STEPS, example_inputs=call_of(shape))
    clock = Clock()
    manifest = fc.export(fast, folder / "bundle", notice=clock.notice)
    clock.notice("")
    form = manifest.forms[0]
    assert form.single is not None
    graphs = {f"{mode.mode} step": mode.parts.whole for mode in form.modes} | {"whole step, one If": form.single}
    files = {name: graph.file for name, graph in graphs.items()}
    weights = (folder / "bundle" / "weights.bin").stat().st_size
    rows: list[Mapping[str, Any]] = [
        {
            "graph": name,
            "onnx_bytes": (folder / "bundle" / file).stat().st_size,
            "export_seconds": clock.seconds[file],
            "export_core_seconds": clock.core_seconds[file],
        }
        | build(folder / "bundle" / file, folder)
        for name, file in files.items()
    ]
    settings = {
        "model": f"{shape.name}, float16",
        "method": repr(method),
        "target": TARGET,
        "batch": BATCH,
        "threads": torch.get_num_threads(),
        "parameters": sum(weight.numel() for weight in model.parameters()),
        "weights of the model, bytes": stored,
        "weight file of all graphs, bytes": weights,
        "memory of the largest build, bytes": resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024,
    }
    about = (
        "Each graph is what a whole step of its kind computes; all share one weight file. Plans are built without a "
        "GPU, for one batch size. What a plan says of itself is read from the program that it holds."
    )
    return Result(
        "tensorrt_plans", "TensorRT-RTX plans of a full-size model", about, settings, COLUMNS, rows,
        checks_of(rows, weights / stored, stored),
    )  # fmt: skip


def build(onnx: Path, folder: Path) -> dict[str, Any]:
    """Build one plan; return what a row has of it."""
    path = folder / "graph.plan"
    plan: Plan = build_plan(onnx, path, target_from_name(TARGET), profiles=[PROFILE])
    facts = plan_facts(path)
    path.unlink()
    return {
        "plan_bytes": plan.bytes,
        "build_seconds": plan.seconds,
        "weight_bytes": facts.weight_bytes,
        "activation_mb": None if plan.activation_bytes is None else plan.activation_bytes / 1e6,
        "capturable": facts.capturable,
        "host_branches": facts.host_branches,
        "copies": facts.copies,
        "gemms": facts.gemms,
        "fused_attention": facts.fused_attention,
    }


def checks_of(rows: Sequence[Mapping[str, Any]], on_disk: float, stored: int) -> list[Check]:
    """Hold what was found to its limits."""
    *modes, whole = rows
    return [
        Check("weights on disk, for all graphs together, in times of the model's", on_disk, MOST_WEIGHTS),
        Check("weights in the largest plan, in times of the model's", whole["weight_bytes"] / stored, MOST_WEIGHTS),
        Check("largest ONNX file without weights, bytes", max(row["onnx_bytes"] for row in rows), LARGEST_MODEL),
        Check(
            "longest export of a step mode, core seconds", max(r["export_core_seconds"] for r in modes), LONGEST_EXPORT
        ),
        Check("mode plans that cannot be captured", sum(not row["capturable"] for row in modes), 0),
        Check("branches on the host in mode plans", sum(row["host_branches"] for row in modes), 0),
        Check("distance from one branch on the host in the whole step's plan", abs(whole["host_branches"] - 1), 0),
    ]


def main() -> None:
    arguments = read_arguments(__doc__ or "")
    with tempfile.TemporaryDirectory() as folder:
        measure(QUICK if arguments.quick else XL2, Path(folder)).write(arguments.out)


if __name__ == "__main__":
    main()
