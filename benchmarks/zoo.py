"""Every transformer denoiser of diffusers, small and with random weights: captured, cached, compared with itself.

One row a class. What a class is refused for stands in its row; nothing of the table is typed in.
"""

from __future__ import annotations

import re
import signal
import tempfile
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from time import process_time
from typing import Any

import torch
from common import argument_parser
from measure import block_share
from results import Check, Column, Result, last_rows, publish
from torch import Tensor, nn

import fouriercache as fc
from fouriercache.calls import Binder, find_timestep
from fouriercache.cost import cost_of
from fouriercache.export.tensorrt import TARGETS
from fouriercache.models import zoo
from fouriercache.passes.pipeline import build_steps
from fouriercache.program import NoMatch
from fouriercache.steps import Steps

QUICK = ("DiTTransformer2DModel", "FluxTransformer2DModel")
SECONDS = 600
"""Wall time that a class may take before its row says that it took too long."""

EVERY_STEP = fc.FORA(interval=1)
EVERY_OTHER = fc.TaylorSeer(interval=2, order=1)
STEPS = 4

COLUMNS = (
    Column("class", "class"),
    Column("captured", "captured"),
    Column("batch", "batch"),
    Column("blocks", "blocks", "d"),
    Column("sites", "sites"),
    Column("refused", "refused"),
    Column("left", "block FLOPs left in a reuse step, %", ".2f"),
    Column("once", "of them after `prepare`, %", ".2f"),
    Column("full", "launches of a full step", "d"),
    Column("reuse", "of a reuse step", "d"),
    Column("moving", "after `prepare`", "d"),
    Column("grid", "grid"),
    Column("exact", "computed at every step"),
    Column("cached", "every other step"),
    Column("onnx", "ONNX"),
    Column("tensorrt", "TensorRT-RTX"),
    Column("asks", "asks in Python"),
    Column("seconds", "CPU s", ".1f"),
)

ABOUT = (
    "Constructor arguments and inputs come from `fouriercache.models.zoo`; all else is read off the graphs. A class is "
    "*captured* when torch.export's graph computes what the model computes. *Sites* are the branches found in its "
    "repeated blocks, then residuals of whole blocks and of the stack. *Block FLOPs left* is what a step that reuses "
    "every branch still computes in those blocks, of what a full step does; what depends on the prompt alone runs once "
    "and counts for neither. *Computed at every step* compares the optimised model at interval 1 with the model itself "
    "over four steps: equal bit for bit, or the largest difference over the largest value, which is the rounding of "
    "merged and narrowed matrix products. *Every other step* says whether four steps with TaylorSeer stay finite. A "
    "class that *asks in Python* decides by values of its inputs which code to run; such a graph serves calls that "
    "answer alike."
)


def main() -> None:
    parser = argument_parser(__doc__, quick="two classes, for the tests")
    parser.add_argument("--only", nargs="+", metavar="CLASS", help="measure these; keep the other rows of the last run")
    parser.add_argument("--resume", action="store_true", help="keep the rows of the last run, measure the rest")
    parser.add_argument("--onnx", action="store_true", help="also export every class to ONNX")
    parser.add_argument("--tensorrt", choices=tuple(TARGETS), help="also build plans for a target")
    given = parser.parse_args()
    names = given.only or (QUICK if given.quick else tuple(zoo.EXAMPLES))
    kept = last_rows("zoo", given.out) if given.only or given.resume else []
    rows: dict[str, Mapping[str, Any]] = {row["class"]: row for row in kept}
    for number, name in enumerate(names):
        if given.resume and name in rows:
            continue
        print(f"{number + 1} of {len(names)}: {name}", flush=True)
        rows[name] = measure(name, onnx=given.onnx, tensorrt=given.tensorrt)
        result = summarize(rows)
        result.write_files(given.out)
    summarize(rows).write(given.out)
    publish("zoo", given.out)


def summarize(rows: Mapping[str, Mapping[str, Any]]) -> Result:
    """All rows in the zoo's order, and how far they are from what is promised."""
    ordered = [rows[name] for name in zoo.EXAMPLES if name in rows]
    good = [row for row in ordered if row["captured"] == "yes"]
    exact = [row for row in good if row.get("error", 1.0) <= 1e-6]
    checks = [
        Check("classes that are not captured", len(ordered) - len(good), max(0, len(ordered) - 60)),
        Check("captured classes that differ by more than 1e-6", len(good) - len(exact), 0),
        Check("captured classes that do not stay finite", sum(row.get("cached") != "finite" for row in good), 0),
        Check("largest share of block FLOPs left, %", max((row.get("left", 0.0) for row in good), default=0.0), 3.0),
    ]
    missing = [name for name in zoo.EXAMPLES if name not in rows]
    settings = {
        "classes": len(ordered),
        "captured": len(good),
        "written in ONNX": sum(row.get("onnx") == "yes" for row in good),
        "blocks in each list": 2,
        "steps": STEPS,
        "not measured": f"{len(missing)} ({' '.join(missing)})" if missing else 0,
    }
    return Result("zoo", "The zoo", ABOUT, settings, COLUMNS, ordered, checks)


def measure(name: str, *, onnx: bool = False, tensorrt: str | None = None) -> dict[str, Any]:
    """One row; what goes wrong stands in it."""
    row: dict[str, Any] = {"class": name, "captured": "no"}
    stage = "captured"
    started = process_time()
    try:
        with _limited(SECONDS), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model, call = zoo.build(name)
            fast = fc.optimize(model, EVERY_STEP, num_steps=STEPS, example_inputs=call)
            row |= _facts(fast.captured[0])
            row |= _compare(model, fast, call)
            row["captured"] = "yes"
            stage = "cached"
            cached = fc.optimize(model, EVERY_OTHER, num_steps=STEPS)
            cached._build = lambda *_: build_steps(fast.captured[0].capture, EVERY_OTHER)  # one capture for both
            row["cached"] = "finite" if _run(cached, call)[1] else "not finite"
            row |= _costs(cached.captured[0])
            if tensorrt is not None:
                stage = "tensorrt"
                row[stage] = _export(cached, tensorrt)
            if onnx:
                stage = "onnx"
                row[stage] = "yes" if row.get("tensorrt") == "yes" else _export(cached, "onnx")  # plans are of ONNX
    except Exception as error:  # noqa: BLE001  # the row is there to say what went wrong
        row[stage] = _short(f"{type(error).__name__}: {error}")
    row["seconds"] = process_time() - started
    return row


def _facts(steps: Steps) -> dict[str, Any]:
    canonical, questions = steps.canonical, steps.capture.questions
    found = Counter(site.kind for sites in canonical.found.values() for site in sites)
    grid = canonical.grid
    return {
        "batch": "any" if any(isinstance(n, str) for shape in steps.capture.shapes for n in shape) else "fixed",
        "blocks": len(canonical.blocks),
        "sites": ", ".join(f"{count} {kind}" for kind, count in found.items()),
        "refused": _reasons(canonical.refused),
        "grid": f"{grid.t} x {grid.h} x {grid.w}" if grid else "not shown",
        "asks": "" if questions is None else f"{len(questions.answers)} values",
    }


def _reasons(refused: Mapping[str, Sequence[NoMatch]]) -> str:
    """Every kind of reason once, without the names of blocks and nodes."""
    kinds = Counter[str]()
    for owner, reasons in refused.items():
        for reason in reasons:
            text = reason.reason.split(": ", 1)[-1]
            kinds[text if owner == "FindSites" else f"{owner}: {text}"] += 1
    return _short("; ".join(f"{text} ({count})" for text, count in kinds.items()))


def _costs(steps: Steps) -> dict[str, Any]:
    compute, reuse = steps.modes["compute"], steps.modes["reuse"]
    return {
        "left": block_share(steps),
        "once": block_share(steps, prepared=True),
        "full": cost_of(compute.whole).launches,
        "reuse": cost_of(reuse.timed, reuse.moving).launches,
        "moving": cost_of(reuse.moving).launches,
    }


def _compare(model: nn.Module, fast: nn.Module, call: Mapping[str, Any]) -> dict[str, Any]:
    want, have = _run(model, call)[0], _run(fast, call)[0]
    error = max(_distance(a, b) for a, b in zip(want, have, strict=True))
    return {"error": error, "exact": "equal" if error == 0 else f"{error:.1e}"}


def _distance(one: Tensor, other: Tensor) -> float:
    """The largest difference over the largest value; 0 only for equal bits."""
    if torch.equal(one, other):
        return 0.0
    scale = max(float(one.double().abs().amax()), 1e-12)
    return float((one.double() - other.double()).abs().amax()) / scale


@torch.no_grad()
def _run(model: nn.Module, call: Mapping[str, Any]) -> tuple[list[Tensor], bool]:
    """The results of a few steps at falling timesteps, and whether all are finite."""
    flat = Binder(getattr(model, "model", model)).flatten(call)
    stamp = flat.paths[find_timestep(flat.paths, flat.tensors, None)]
    results: list[Tensor] = []
    for step in range(STEPS):
        output = model(**(dict(call) | {stamp: call[stamp] * (1 - step / STEPS)}))
        results += [leaf for leaf in torch.utils._pytree.tree_leaves(output) if isinstance(leaf, Tensor)]
    return results, all(bool(result.isfinite().all()) for result in results)


def _export(fast: fc.OptimizedModule, target: str) -> str:
    try:
        with tempfile.TemporaryDirectory() as folder:
            fc.export(fast, Path(folder) / "bundle", targets=[target], single_graph=False)
    except fc.OptimizeError as error:
        return _short(f"{type(error).__name__}: {error}")
    return "yes"


def _short(text: str) -> str:
    """On one line of a table, with files named from their package on."""
    line = re.sub(r"\S*/site-packages/", "", " ".join(text.replace("|", "/").split()))
    return line if len(line) <= 240 else line[:237] + "..."


@contextmanager
def _limited(seconds: int) -> Iterator[None]:
    def stop(*_: object) -> None:
        raise TimeoutError(f"took more than {seconds} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


if __name__ == "__main__":
    main()
