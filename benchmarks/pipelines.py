"""Cached transformers in real diffusers pipelines: exact at interval 1, and what interval 4 does.

DiTPipeline runs the shipped model; FluxPipeline, PixArtAlphaPipeline and WanPipeline run tiny random weights, so their
errors say that caching works there, not how well it would on trained ones. Nothing is timed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from common import read_arguments
from results import Check, Column, Result

import fouriercache as fc
from tests.pipelines.runs import COMPUTED, METHODS, PIPELINES, STEPS, relative_error

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


def measure(name: str, methods: Mapping[str, Callable[[int], fc.Method]]) -> list[dict[str, object]]:
    """Run one pipeline with each method; every run draws the same noise."""
    build, run = PIPELINES[name]
    pipe = build()
    pipe.set_progress_bar_config(disable=True)
    model = pipe.transformer
    want = run(pipe)
    rows = []
    for label, method in methods.items():
        pipe.transformer = fc.optimize(model, method(1), num_steps=STEPS)
        is_exact = torch.equal(run(pipe), want)
        fast = pipe.transformer = fc.optimize(model, method(4), num_steps=STEPS)
        have = run(pipe)
        report, computed = fast.report, fast.session.computed_steps
        rows.append(
            {
                "pipeline": name,
                "method": label,
                "sites": len(report.sites),
                "passes": len(computed),
                "exact": is_exact,
                "computed": ", ".join(map(str, next(iter(computed.values())))),
                "is_scheduled": all(list(steps) == COMPUTED[label] for steps in computed.values()),
                "flops_percent": 100 * report.modes["reuse"].flops / report.modes["compute"].flops,
                "cache_kib": fast.cache_bytes / 2**10,
                "error": relative_error(have, want),
            }
        )
    return rows


def main() -> None:
    asked = read_arguments(__doc__)
    methods = dict(list(METHODS.items())[:1]) if asked.quick else METHODS
    rows = [row for name in PIPELINES for row in measure(name, methods)]
    result = Result(
        "pipelines",
        "Cached transformers in real pipelines",
        f"Each pipeline takes {STEPS} steps, with its own scheduler and guidance: in one batch (DiT, PixArt), as an "
        "input (FLUX), in two calls (Wan). Error: relative L2 of the pipeline's result to that of the original "
        "transformer with the same seed. Weights are random but for DiTPipeline's, which is the shipped model.",
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
