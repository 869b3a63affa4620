"""What it takes to start: importing, optimising a model for the first time, and from captures that are kept on disk.

Every start is a process of its own, as only a fresh process starts. DiT-XL/2 at its full size, with random float32
weights and on the meta device.
"""

from __future__ import annotations

import time

_BEGAN = time.perf_counter()  # before torch is imported, which is a part of what is measured

import json  # noqa: E402
import sys  # noqa: E402
import tempfile  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import Any  # noqa: E402

import torch  # noqa: E402
from torch import Tensor  # noqa: E402

import fouriercache as fc  # noqa: E402

_IMPORTED = time.perf_counter()

from common import CLASSES, QUICK, Inputs, Shape, Spread, argument_parser, build_model  # noqa: E402
from measure import resident, run_apart  # noqa: E402
from results import Check, Column, Result, Row  # noqa: E402

XL2 = Shape(layers=28, heads=16, head_size=72, latent=32)
STEPS = 50
ROUNDS = 3
FLAG = "--one-start"
KINDS = ("random float32", "meta")
STARTS = ("cold, nothing kept", "cold, kept on disk", "from disk")
LONGEST = {"cold, nothing kept": 20.0, "cold, kept on disk": 20.0, "from disk": 3.0}
"""Seconds that `optimize` may take on an idle machine.

What is held to them is the lesser of two numbers: seconds by the clock, which other work lengthens, and seconds of one
core, in which two cores at work count twice and waiting for a disk does not count. Both stand in the table.
"""
LARGEST_OVERHEAD = 0.02
"""Memory of an optimised model over the original's weights, caches not counted."""

COLUMNS = (
    Column("weights", "weights"),
    Column("start", "start"),
    Column("import_seconds", "import, s", ".2f"),
    Column("optimize_seconds", "optimize, s", ".2f"),
    Column("optimize_cpu_seconds", "of one core, s", ".2f"),
    Column("lesser_seconds", "the lesser, s", ".2f"),
    Column("import_and_optimize_seconds", "import and optimize, s", ".2f"),
    Column("from_disk", "from disk"),
    Column("entry_bytes", "kept, bytes", ",d"),
    Column("overhead_percent", "memory over the weights, %", ".2f"),
)
METHOD = fc.TaylorSeer(interval=4, order=1)


def method_inputs(shape: Shape, *, is_meta: bool) -> dict[str, Tensor]:
    """One call, with values or without."""
    inputs = Inputs.draw(shape, STEPS)
    call = inputs.call(inputs.noise, 0)
    return {name: tensor.to("meta") for name, tensor in call.items()} if is_meta else call


def start(shape: Shape, *, is_meta: bool, folder: str | None) -> dict[str, Any]:
    """Optimise a model in this process, which has done nothing else; return how long that took."""
    with torch.device("meta" if is_meta else "cpu"):
        model = build_model(shape)
    call = method_inputs(shape, is_meta=is_meta)
    began, began_cpu = time.perf_counter(), time.process_time()
    fast = fc.optimize(model, METHOD, num_steps=STEPS, example_inputs=call, cache_dir=folder)
    seconds, cpu_seconds = time.perf_counter() - began, time.process_time() - began_cpu
    return {
        "import_seconds": _IMPORTED - _BEGAN,
        "optimize_seconds": seconds,
        "optimize_cpu_seconds": cpu_seconds,
        "lesser_seconds": min(seconds, cpu_seconds),
        "import_and_optimize_seconds": _IMPORTED - _BEGAN + seconds,
        "from_disk": fast.report.is_from_disk,
        "entry_bytes": sum(path.stat().st_size for path in Path(folder).iterdir()) if folder else 0,
    }


def overhead(shape: Shape, *, folder: str | None) -> dict[str, Any]:
    """Return the resident memory that optimising adds, over the weights, once a capture's libraries are loaded.

    A tiny model is optimised first, so that what is added is this model's alone. Both are read after garbage
    collection, with free memory given back to the system.
    """
    model = build_model(shape)
    weights = sum(tensor.numel() * tensor.element_size() for tensor in [*model.parameters(), *model.buffers()])
    call = method_inputs(shape, is_meta=False)
    with torch.no_grad():
        model(**call)
    fc.optimize(build_model(QUICK), METHOD, num_steps=STEPS, example_inputs=method_inputs(QUICK, is_meta=False))
    before = resident()
    fast = fc.optimize(model, METHOD, num_steps=STEPS, example_inputs=call, cache_dir=folder)
    added = resident() - before
    return {"overhead_percent": 100 * added / weights, "from_disk": fast.report.is_from_disk}


def start_apart(what: str, kind: str, folder: str | None, *, quick: bool) -> dict[str, Any]:
    """Run one start in a fresh process, and return what it found."""
    asked = json.dumps({"what": what, "is_meta": kind == "meta", "folder": folder, "quick": quick})
    return run_apart(__file__, FLAG, asked)


def measure(kind: str, rounds: int, *, quick: bool) -> list[Row]:
    """Measure all starts of one kind of weights, each in every round; the folder of a round begins empty."""
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in STARTS}
    overheads: dict[str, float | None] = dict.fromkeys(STARTS)
    for number in range(rounds):
        with tempfile.TemporaryDirectory() as folder:
            for name in STARTS:
                kept = None if name == "cold, nothing kept" else folder
                found[name].append(start_apart("start", kind, kept, quick=quick))
            if number == 0 and kind != "meta":
                for name in ("cold, nothing kept", "from disk"):
                    kept = None if name == "cold, nothing kept" else folder
                    overheads[name] = start_apart("overhead", kind, kept, quick=quick)["overhead_percent"]
    return [describe(kind, name, runs, overheads[name]) for name, runs in found.items()]


def describe(kind: str, name: str, runs: list[dict[str, Any]], percent: float | None) -> Row:
    """One row: medians and quartiles of the rounds."""
    seconds = [key for key in runs[0] if key.endswith("seconds")]
    if any(run["from_disk"] != (name == "from disk") for run in runs):
        raise RuntimeError(f"{kind}, {name}: the capture did not come from where it should")
    return {
        "weights": kind,
        "start": name,
        **{key: Spread.of([run[key] for run in runs]).as_dict() for key in seconds},
        "from_disk": name == "from disk",
        "entry_bytes": runs[0]["entry_bytes"],
        "overhead_percent": percent,
    }


def main() -> None:
    parser = argument_parser(__doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="how often each start is measured")
    asked = parser.parse_args()
    shape, rounds = (QUICK, 1) if asked.quick else (XL2, asked.rounds)
    result = Result(
        "start_up",
        "Starting",
        f"{shape.name}, batch 2, dynamic, every start in a process of its own; median and quartiles of {rounds}. "
        "*import* is of torch, diffusers and this package. *optimize* is capture, all passes and both step modes; "
        "with weights, also one run of the model and one of the graph, by which the capture is verified. *from "
        "disk*, an earlier process has kept the capture, and neither is the model run nor traced. Targets are held to "
        "the lesser of seconds by the clock, which other work on the machine lengthens, and seconds of one core, in "
        "which both cores count while the model and its graph run: on an idle machine, `optimize` takes no longer "
        "than either. Memory is resident memory that optimising adds, over the weights, libraries not counted.",
        {"model": shape.name, "batch": 2, "classes": CLASSES, "method": repr(METHOD), "rounds": rounds},
        COLUMNS,
    )
    for kind in KINDS:
        result.rows += measure(kind, rounds, quick=asked.quick)
    for row in result.rows:
        what, limit = f"{row['weights']}, {row['start']}", LONGEST[row["start"]]
        result.checks.append(Check(f"{what}: seconds", row["lesser_seconds"]["median"], limit))
        if row["overhead_percent"] is not None:
            share = row["overhead_percent"] / 100
            result.checks.append(Check(f"{what}: memory added over the weights", share, LARGEST_OVERHEAD))
    result.write(asked.out)


if __name__ == "__main__":
    if FLAG in sys.argv:
        given = json.loads(sys.argv[-1])
        size = QUICK if given["quick"] else XL2
        if given["what"] == "start":
            print(json.dumps(start(size, is_meta=given["is_meta"], folder=given["folder"])))
        else:
            print(json.dumps(overhead(size, folder=given["folder"])))
    else:
        main()
