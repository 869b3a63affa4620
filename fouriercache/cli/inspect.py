"""`fouriercache inspect`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from fouriercache.bundle.manifest import MANIFEST
from fouriercache.cli.asked import ask
from fouriercache.cli.build import build_fast
from fouriercache.cli.exits import CHECK_FAILED
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
from fouriercache.cli.speak import complain, message_of, show, show_json, working
from fouriercache.cost import DEVICES, Device, measure_cpu
from fouriercache.errors import BundleError, ModelSpecError
from fouriercache.models.examples import SPECS
from fouriercache.paths import path_of
from fouriercache.report.console import draw_cost, draw_facts
from fouriercache.report.data import graph_as_dict
from fouriercache.report.facts import collect_facts
from fouriercache.testing.bundles import golden_of_bundle

EXAMPLES = examples(
    ("inspect --method FORA --site stack", "the sites FORA would use, and what each kind of step costs"),
    ("inspect --program reuse", "the text of the graph that a cached step runs"),
    ("inspect flux-dev@2 --program compute", "the graph of FLUX.1-dev with two blocks of each kind, without weights"),
    ("inspect bundle/", "what an exported bundle ships, read from its files alone"),
    ("inspect dit-xl-2 --device h200 --batch 8", "what steps and a trajectory are predicted to cost on an H200"),
    ("inspect --device cpu", "the same for this machine's processor, which is measured first"),
    ("inspect --json", "sites, refusals, grid and costs for a program to read"),
)


_OF_A_MODEL = (
    *("method", "site", "interval", "order", "settings", "calibration", "grid"),
    *("steps", "cache_dir", "device", "batch", "program"),
)
"""Parameters that have nothing to say of a bundle."""


def inspect(
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
    program: Annotated[
        str | None,
        typer.Option(help="Print a program's text instead: canonical, compute, reuse, partial, probe, cond."),
    ] = None,
    device: Annotated[
        str | None, typer.Option(help=f"Also predict time and memory on this device: {', '.join(DEVICES)}, cpu.")
    ] = None,
    batch: Annotated[int | None, typer.Option(min=1, help="Samples in a call, for --device.")] = None,
    cache_dir: CacheDir = None,
    as_json: Json = False,
) -> None:
    """Optimise a model and say what was found: sites, refusals, token grid, cost of each mode; or print a graph.

    Of the folder of an exported bundle, say what it ships: operators of each graph, bytes of weights, facts of plans.
    Exit code 1 when a file of it is not what its manifest says.
    """
    if model not in SPECS and path_of(model).is_dir():
        if os.path.isfile(path_of(model) / MANIFEST):
            refuse_useless(
                ctx,
                _OF_A_MODEL,
                f"{model} is a bundle: its method, steps and graphs are as they were exported, its programs are the "
                ".txt files in it, and costs are predicted of a model.",
            )
        _inspect_bundle(path_of(model), as_json=as_json)
        return
    if device is None and batch is not None:
        raise typer.BadParameter("it says what to predict for, and nothing is: give --device", param_hint="--batch")
    if program is not None and not as_json:
        refuse_useless(ctx, ("device", "batch"), "With --program the program's text alone is printed, without --json.")
    _refuse_path(model)
    asked = ask(ctx, method, steps, settings, calibration, grid, site=site, interval=interval, order=order)
    fast = build_fast(model, asked, cache_dir)
    text = None if program is None else fast.program(program).text()
    facts = collect_facts(fast, fast.method.name, fast.method.site)
    cost = None if device is None else fast.report.cost(_ceilings(device), batch=batch)
    if as_json:
        predicted = {} if cost is None else {"cost": cost.as_dict()}
        show_json(graph_as_dict(facts) | predicted | ({} if text is None else {"program": text}))
    elif text is not None:
        typer.echo(text, nl=False)
    else:
        show(draw_facts(facts))
        if cost is not None:
            show("")
            show(draw_cost(cost))


def _refuse_path(model: str) -> None:
    """Say of what is no name of a model, but a path, how a bundle is given."""
    path = path_of(model)
    if model not in SPECS and path.is_file():
        holder = path.parent if (path.parent / MANIFEST).is_file() else "bundle/"
        raise ModelSpecError(
            f"{model} is a file, and a bundle is given by its folder.\n  Run: fouriercache inspect {holder}"
        )
    if "/" in model and ":" not in model:
        raise ModelSpecError(
            f"There is no folder {model}, and a bundle is given by its folder.\n"
            "  Give the folder that `fouriercache export` wrote, or the name of a model."
        )


def _ceilings(device: str) -> Device | str:
    """The device of that name; this machine's processor is measured."""
    if device != "cpu":
        return device
    with working("Measuring this processor"):
        return measure_cpu()


def _inspect_bundle(folder: Path, *, as_json: bool) -> None:
    try:
        golden = golden_of_bundle(folder)
    except BundleError as error:  # a failed check, as `fouriercache check` has it
        complain(message_of(error))
        raise typer.Exit(CHECK_FAILED) from error
    if as_json:
        parts = {name: dict(part.facts) | dict(part.parts) for name, part in golden.sections.items()}
        show_json({"bundle": str(folder), **golden.head, "sections": parts})
    else:
        typer.echo(golden.text(), nl=False)
