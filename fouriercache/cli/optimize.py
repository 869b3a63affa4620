"""`fouriercache optimize`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fouriercache.cli.asked import ask
from fouriercache.cli.build import build_fast
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
    refuse_useless,
)
from fouriercache.cli.speak import say, show, show_json
from fouriercache.paths import path_of
from fouriercache.report.console import draw_facts, draw_gain
from fouriercache.report.data import graph_as_dict
from fouriercache.report.facts import collect_facts
from fouriercache.report.gain import gain_of
from fouriercache.testing.record import golden_of

EXAMPLES = examples(
    ("optimize flux-dev --method TaylorSeer --interval 6", "what would be cached of FLUX.1-dev; needs no weights"),
    ("optimize mypackage.models:build", "the same for a model of yours: build() returns (model, inputs of one call)"),
    ("optimize demo --method FORA --golden graphs/demo.txt", "write down the graphs, for `fouriercache check`"),
    ("optimize dit-xl-2 --method Spectrum --set alpha=3.0 --steps 20", "a method with options of its own"),
    ("optimize demo --method Tuned --calibration calibration.safetensors", "with the steps that were found for it"),
    ("optimize dit-xl-2 --json", "the figures for a program to read"),
)


def optimize(
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
    golden: Annotated[
        Path | None,
        typer.Option(parser=path_of, metavar="PATH", help="Write the graphs to this file, to be checked in CI."),
    ] = None,
    cache_dir: CacheDir = None,
    as_json: Json = False,
) -> None:
    """Say what a method makes of a model: sites, refusals, the cost of each kind of step and of a trajectory.

    Nothing is run but the capture, so a model of any size will do, without weights and without a GPU.
    """
    if golden is not None:
        refuse_useless(
            ctx, ["grid"], "A golden is made again from its spec: let its function return Example(..., grid=)."
        )
    asked = ask(ctx, method, steps, settings, calibration, grid, site=site, interval=interval, order=order)
    fast = build_fast(model, asked, cache_dir)
    facts, gain = collect_facts(fast, fast.method.name, fast.method.site), gain_of(fast, asked.steps)
    if as_json:
        show_json({"model": model, **graph_as_dict(facts), "trajectory": gain.as_dict()})
    else:
        show(draw_facts(facts))
        show(draw_gain(gain))
    if golden is not None:
        golden_of(fast, model).write(golden)
        say(f"Wrote {golden}")
