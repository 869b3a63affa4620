"""`fouriercache bench`."""

from __future__ import annotations

from typing import Annotated

import typer

from fouriercache.cli.asked import ask
from fouriercache.cli.build import find_example, optimize_example
from fouriercache.cli.options import (
    CacheDir,
    CalibrationFile,
    Grid,
    Interval,
    Json,
    MethodName,
    Order,
    Settings,
    SiteName,
    Spec,
    Steps,
    examples,
)
from fouriercache.cli.speak import Bars, show, show_json
from fouriercache.report.console import draw_bench
from fouriercache.report.environment import describe_environment
from fouriercache.report.stopwatch import time_loops

EXAMPLES = examples(
    ("bench", "the shipped model, TaylorSeer at every branch, against the model itself"),
    ("bench --method FORA --site stack --rounds 10", "one residual for the whole stack; more rounds, less noise"),
    ("bench mypackage.models:build --backend inductor", "a model of yours, with compiled steps"),
    ("bench --json > bench.json", "the figures for a program to read"),
)


def bench(
    ctx: typer.Context,
    model: Spec = "demo",
    method: MethodName = "TaylorSeer",
    site: SiteName = None,
    interval: Interval = None,
    order: Order = None,
    settings: Settings = None,
    calibration: CalibrationFile = None,
    grid: Grid = None,
    steps: Steps = 50,
    rounds: Annotated[int, typer.Option(min=1, help="Loops of each; they take turns.")] = 3,
    backend: Annotated[
        str, typer.Option(help="eager or inductor; on a GPU also cudagraphs or inductor+cudagraphs.")
    ] = "eager",
    cache_dir: CacheDir = None,
    as_json: Json = False,
) -> None:
    """Time a model's own denoising loop and the cached one, in turns, and the kinds of steps by themselves.

    The peers' packages, quality beside speed and the figures of the docs are what `make bench` measures.
    """
    asked = ask(ctx, method, steps, settings, calibration, grid, site=site, interval=interval, order=order)
    example = find_example(model)
    fast = optimize_example(model, example, asked, cache_dir, backend)
    runs = fast.method  # a calibration has taken the place of parts of what was asked for
    with Bars(["original", "cached"], asked.steps * (rounds + 1)) as bars:
        found = time_loops(fast, example.inputs, asked.steps, rounds, bars.show)
    if as_json:
        said = {"model": model, "method": repr(runs), "backend": backend, "rounds": rounds}
        show_json({**said, **found.as_dict(), "environment": describe_environment()})
    else:
        show(draw_bench(f"{runs.name}, {runs.site} sites, {backend}", found))
