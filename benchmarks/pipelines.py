"""Cached transformers in real diffusers pipelines: exact at interval 1, and what interval 4 does.

DiTPipeline runs the shipped model; all others run tiny random weights, so their errors say that caching works there,
not how well it would on trained ones. Nothing is timed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from common import read_arguments
from results import Check, Column, Result

import fouriercache as fc
from tests.pipelines.runs import METHODS, PIPELINES, STEPS, WAN22_STEPS, relative_error, scheduled, steps_of_each

COLUMNS = (
    Column("pipeline", "pipeline"),
    Column("method", "method"),
    Column("sites", "sites found", "d"),
    Column("passes", "calls a step", "d"),
    Column("exact", "interval 1 equals the pipeline"),
    Column("computed", "steps computed at interval 4"),
    Column("flops_percent", "FLOPs of a cached step, %", ".2f"),
    Column("cache_kib", "features kept, KiB", ".1f"),
    Column("error", "error at interval 4", ".2e"),
)


def measure(name: str, methods: Mapping[str, Callable[[int], fc.Method]], cache: Path) -> list[dict[str, object]]:
    """Run one pipeline with each method; every run draws the same noise, and all methods share captures."""
    build, run = PIPELINES[name]
    pipe = build()
    pipe.set_progress_bar_config(disable=True)
    steps = steps_of_each(pipe)
    models = {part: getattr(pipe, part) for part in steps}
    want = run(pipe)
    rows = []

    def put(method: fc.Method) -> dict[str, fc.OptimizedModule]:
        fast = {
            part: fc.optimize(model, method, num_steps=steps[part], cache_dir=cache) for part, model in models.items()
        }
        for part, each in fast.items():
            setattr(pipe, part, each)
        return fast

    for label, method in methods.items():
        put(method(1))
        is_exact = torch.equal(run(pipe), want)
        fast = put(method(4))
        have = run(pipe)
        computed = {part: each.session.computed_steps for part, each in fast.items()}
        modes = [each.report.modes for each in fast.values()]
        rows.append(
            {
                "pipeline": name,
                "method": label,
                "sites": sum(len(each.report.sites) for each in fast.values()),
                "passes": max(map(len, computed.values())),
                "exact": is_exact,
                "computed": "; ".join(", ".join(map(str, next(iter(found.values())))) for found in computed.values()),
                "is_scheduled": all(
                    list(done) == scheduled(label, steps[part])
                    for part, found in computed.items()
                    for done in found.values()
                ),
                "flops_percent": 100 * sum(m["reuse"].flops for m in modes) / sum(m["compute"].flops for m in modes),
                "cache_kib": sum(each.cache_bytes for each in fast.values()) / 2**10,
                "error": relative_error(have, want),
            }
        )
    return rows


def main() -> None:
    asked = read_arguments(__doc__)
    methods = dict(list(METHODS.items())[:1]) if asked.quick else METHODS
    with TemporaryDirectory() as folder:
        rows = [row for name in PIPELINES for row in measure(name, methods, Path(folder))]
    result = Result(
        "pipelines",
        "Cached transformers in real pipelines",
        f"Each pipeline takes {STEPS} steps, with its own scheduler and guidance: in one batch, as an input (FLUX), in "
        f"two calls (Wan, HunyuanVideo). Wan 2.2 takes {WAN22_STEPS}, which its two transformers share; sites, FLOPs "
        "and features are those of both, the steps of each are after a semicolon. Error: relative L2 of the pipeline's "
        "result to that of the original transformer with the same seed. Weights are random but for DiTPipeline's, "
        "which is the shipped model.",
        {"steps": STEPS, "dtype": "float32"},
        COLUMNS,
        list(rows),
    )
    inexact = sum(not row["exact"] for row in rows)
    off_schedule = sum(not row["is_scheduled"] for row in rows)
    result.checks.append(Check("rows that differ from the pipeline at interval 1", inexact, 0))
    result.checks.append(Check("rows that compute other steps than scheduled", off_schedule, 0))
    result.write(asked.out)


if __name__ == "__main__":
    main()
