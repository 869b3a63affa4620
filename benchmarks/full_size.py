"""Published models at their full size, without weights: what optimising takes, and what every kind of step costs.

Each model is captured on the meta device in a process of its own, whose memory is no one else's. Nothing is run.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from common import Spread, argument_parser
from measure import Seconds, block_share, exponent, peak_memory, run_apart, timed
from results import Check, Column, Result, Row, last_rows, publish

import fouriercache as fc
from fouriercache.capture import Capture, capture
from fouriercache.models.examples import Example, build_example
from fouriercache.models.full_size import FULL_SIZE
from fouriercache.passes.pipeline import build_steps
from fouriercache.runtime.estimates import CostEstimate
from fouriercache.runtime.report import Report, report_of
from fouriercache.steps import Steps

DEPTHS = ("flux-dev@10", "flux-dev@40", "wan-14b@20", "wan-14b@80")
"""Two models with fewer and with more blocks than published, for how passes grow with a graph."""
SPECS = (*FULL_SIZE, *DEPTHS)
QUICK = ("dit-xl-2@1", "dit-xl-2@2")
FLAG = "--one-model"
REPEATS = 3
STEPS = 50
DEVICE = "h200"
SITES = ("branch", "stack")
METHODS = {"reuse": fc.FORA(interval=5), "predict": fc.TaylorSeer(interval=5, order=1)}
"""A cached step that takes the last features as they are, and one that predicts from the last two."""

LARGEST_MEMORY = 24.0
"""GB, resident, of the process that captures, runs all passes and reports."""
LARGEST_EXPONENT = 1.15
"""Passes take calls ** exponent; linear is 1, and a quadratic step in a linear whole would show above this."""
LARGEST_SHARE = 3.0
"""Percent of the blocks' FLOPs that a step may still compute which reuses every site."""

COLUMNS = (
    Column("model", "model"),
    Column("site", "sites"),
    Column("blocks", "blocks", "d"),
    Column("calls", "captured calls", ",d"),
    Column("sites", "sites found", "d"),
    Column("refused", "refused", "d"),
    Column("grid", "grid"),
    Column("capture_cpu", "capture, CPU s", ".1f"),
    Column("capture_wall", "wall s", ".1f"),
    Column("pass_cpu", "all passes, CPU s", ".2f"),
    Column("pass_wall", "wall s", ".2f"),
    Column("per_thousand", "CPU s for 1,000 calls", ".2f"),
    Column("memory", "memory at most, GB", ".2f"),
    Column("full_tflops", "full step, TFLOPs", ",.2f"),
    Column("reuse_tflops", "reuse step", ".4f"),
    Column("predict_tflops", "predict step", ".4f"),
    Column("left", "block FLOPs left in a reuse step, %", ".3f"),
    Column("full_launches", "launches of a full step", ",d"),
    Column("compute_launches", "computed step", ",d"),
    Column("reuse_launches", "reuse step", ",d"),
    Column("predict_launches", "predict step", ",d"),
    Column("launches_left", "reuse of full, %", ".1f"),
    Column("prepared_launches", "reuse after `prepare`", ",d"),
    Column("reuse_kept", "kept for reuse, GiB", ".2f"),
    Column("predict_kept", "for predict, GiB", ".2f"),
)

ABOUT = (
    "Configurations and calls are those of `fouriercache.models.full_size`, on the meta device; a name with `@` has so "
    "many blocks of each kind instead. Each model has a process of its own: it is captured once, then all passes run "
    "for the method that reuses (FORA) and the one that predicts (TaylorSeer, order 1), at branch sites and at the "
    "stack site. *All passes* are those for TaylorSeer: the canonical graph, both step modes and their parts, median "
    f"and quartiles of {REPEATS} runs on one capture. *Memory at most* is the largest resident memory of the process "
    f"so far. FLOPs, launches and bytes are those that `fast.report.cost` predicts for one step on {DEVICE.upper()}, "
    "at the batch of the capture: that of the published call, and two where it has one sample and the batch is "
    "dynamic; "
    "the *full step* is the model itself, the *computed step* the same after passes, with its features kept. What "
    "depends on the prompt alone runs once and is in no step but the full one; what depends on the timestep is in each "
    "but *after `prepare`*. *Refused* counts what passes left alone; the reasons are in the JSON."
)


def measure(spec: str, repeats: int) -> list[Row]:
    """Capture a model in this process, and run everything for each kind of site."""
    example = build_example(spec)
    seconds, captured = timed(lambda: capture(example.model, example.inputs, verify=False))
    shared = {
        "model": spec,
        "what": FULL_SIZE[spec.partition("@")[0]].what,
        "weights": sum(weight.numel() for weight in example.model.parameters()) / 1e9,
        "calls": sum(1 for _ in captured.program.calls()),
        "capture_cpu": seconds.cpu,
        "capture_wall": seconds.wall,
    }
    return [{**shared, **measure_sites(captured, example, site, repeats)} for site in SITES]


def measure_sites(captured: Capture, example: Example, site: str, repeats: int) -> dict[str, Any]:
    """Run all passes for one kind of site, and ask what steps cost."""
    methods = {name: method.with_(site=site) for name, method in METHODS.items()}
    runs: list[Seconds] = []
    built = {"reuse": build_steps(captured, methods["reuse"], example.grid)}
    for _ in range(repeats):
        built.pop("predict", None)  # one at a time in memory, as in a use
        seconds, built["predict"] = timed(lambda: build_steps(captured, methods["predict"], example.grid))
        runs.append(seconds)
    outline, _ = timed(built["predict"].outline)
    reports = {name: report_of(steps, methods[name], STEPS) for name, steps in built.items()}
    asking, cost = timed(lambda: reports["predict"].cost(DEVICE))
    costs = {"reuse": reports["reuse"].cost(DEVICE), "predict": cost}
    cpu, calls = Spread.of([run.cpu for run in runs]), sum(1 for _ in captured.program.calls())
    return {
        "site": site,
        **_found(reports["predict"]),
        "pass_cpu": cpu.as_dict(),
        "pass_wall": Spread.of([run.wall for run in runs]).as_dict(),
        "per_thousand": 1e3 * cpu.median / calls,
        "outline_cpu": outline.cpu,
        "cost_cpu": asking.cpu,
        **_steps(costs, built),
        "prepared_launches": reports["reuse"].cost(DEVICE, prepared=True).modes["reuse"].launches,
        "costs": {name: estimate.as_dict() for name, estimate in costs.items()},
        "memory": peak_memory() / 1e9,
    }


def _found(report: Report) -> dict[str, Any]:
    grid = report.grid
    return {
        "blocks": len(report.blocks),
        "sites": len(report.sites),
        "refused": sum(len(reasons) for reasons in report.refused.values()),
        "reasons": {name: [asdict(reason) for reason in reasons] for name, reasons in report.refused.items()},
        "grid": f"{grid.t} x {grid.h} x {grid.w}" if grid else "not shown",
    }


def _steps(costs: Mapping[str, CostEstimate], built: Mapping[str, Steps]) -> dict[str, Any]:
    reuse, predict = costs["reuse"], costs["predict"]
    full = reuse.modes["original"]
    return {
        "full_tflops": full.flops / 1e12,
        "reuse_tflops": reuse.modes["reuse"].flops / 1e12,
        "predict_tflops": predict.modes["reuse"].flops / 1e12,
        "left": block_share(built["reuse"]),
        "full_launches": full.launches,
        "compute_launches": reuse.modes["compute"].launches,
        "reuse_launches": reuse.modes["reuse"].launches,
        "predict_launches": predict.modes["reuse"].launches,
        "launches_left": 100 * reuse.modes["reuse"].launches / full.launches,
        "reuse_kept": reuse.cache / 2**30,
        "predict_kept": predict.cache / 2**30,
    }


def growths(rows: Sequence[Row]) -> Iterator[tuple[str, str, float]]:
    """Yield (model, kind of site, exponent of pass time over calls) of every model that was measured at depths."""
    depths: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        depths.setdefault((row["model"].partition("@")[0], row["site"]), []).append(row)
    for (model, site), mine in depths.items():
        if len(mine) > 1:
            calls, seconds = [row["calls"] for row in mine], [row["pass_cpu"]["median"] for row in mine]
            yield model, site, exponent(calls, seconds)


def summarize(rows: list[Row]) -> Result:
    """All rows, and how far they are from what is promised."""
    checks = [
        Check(f"{model}: largest resident memory, GB", max(r["memory"] for r in rows if r["model"] == model), limit)
        for model, limit in dict.fromkeys((row["model"], LARGEST_MEMORY) for row in rows)
    ]
    checks += [
        Check(f"{model}, {site} sites: passes take calls ** this", growth, LARGEST_EXPONENT)
        for model, site, growth in growths(rows)
    ]
    checks.append(Check("largest share of block FLOPs left, %", max(row["left"] for row in rows), LARGEST_SHARE))
    missing = [spec for spec in SPECS if spec not in {row["model"] for row in rows}]
    settings = {
        "methods": " and ".join(map(repr, METHODS.values())),
        "models": "; ".join(f"{name}: {model.what}" for name, model in FULL_SIZE.items()),
        "not measured": ", ".join(missing) or 0,
    }
    return Result("full_size", "Full size, without weights", ABOUT, settings, COLUMNS, rows, checks)


def main() -> None:
    parser = argument_parser(__doc__, quick="DiT with one and two blocks, for the tests")
    parser.add_argument("--only", nargs="+", metavar="MODEL", help="measure these; keep the other rows of the last run")
    asked = parser.parse_args()
    specs, repeats = (QUICK, 1) if asked.quick else (tuple(asked.only or SPECS), REPEATS)
    found: dict[str, list[Row]] = {}
    for row in last_rows("full_size", asked.out) if asked.only else []:
        found.setdefault(row["model"], []).append(row)
    for number, spec in enumerate(specs):
        print(f"{number + 1} of {len(specs)}: {spec}", flush=True)
        found[spec] = run_apart(__file__, FLAG, spec, str(repeats))["rows"]
        summarize(in_order(found)).write_files(asked.out)
    summarize(in_order(found)).write(asked.out)
    publish("full_size", asked.out)


def in_order(found: Mapping[str, list[Row]]) -> list[Row]:
    """The rows of all models, in the order of `SPECS`."""
    return [row for spec in dict.fromkeys([*SPECS, *found]) for row in found.get(spec, [])]


if __name__ == "__main__":
    if FLAG in sys.argv:
        print(json.dumps({"rows": measure(sys.argv[-2], int(sys.argv[-1]))}))
    else:
        main()
