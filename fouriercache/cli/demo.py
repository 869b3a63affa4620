"""`fouriercache demo`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fouriercache.cli.exits import CHECK_FAILED
from fouriercache.cli.options import DryRun, Json, Seed, Steps, examples
from fouriercache.cli.speak import Bars, complain, say, show, show_json
from fouriercache.extras import install_line
from fouriercache.figures import format_seconds
from fouriercache.paths import path_of
from fouriercache.report.console import draw_plan, draw_runs
from fouriercache.report.demo import PREDICTING, PREPARING, SHIPPING, choose_settings, estimate_seconds, run_demo
from fouriercache.report.files import prepare_folder, write_report
from fouriercache.report.shipping import can_ship

EXAMPLES = examples(
    ("demo --dry-run", "what would run, and for how long"),
    ("demo --steps 20 --out quick", "a shorter demo; open quick/report.html"),
    ("demo --json > results.json", "the figures for a program to read"),
)


def demo(
    out: Annotated[
        Path, typer.Option(parser=path_of, metavar="PATH", help="Folder for report.html and results.json.")
    ] = Path("demo_output"),
    steps: Steps = 50,
    seed: Seed = 0,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Sample with the shipped model, uncached and cached, and write an HTML report."""
    plan = [("no cache", steps), *((setting.label, len(setting.computed(steps))) for setting in choose_settings(steps))]
    if not dry_run:
        try:
            prepare_folder(out)
        except OSError as error:
            raise typer.BadParameter(str(error), param_hint="--out") from error
    seconds = estimate_seconds(steps)
    if dry_run:
        loops = [{"label": label, "computed": computed} for label, computed in plan]
        if as_json:
            show_json({"steps": steps, "loops": loops, "sampling_seconds": seconds})
        else:
            show(draw_plan(plan, steps))
            typer.echo(
                f"\nAbout {format_seconds(seconds)} of sampling on this machine, plus capture. Nothing was written."
            )
        return
    say(f"{len(plan)} loops of {steps} steps: about {format_seconds(seconds)} of sampling, plus capture.")
    command = ["fouriercache", "demo", "--out", str(out), "--steps", str(steps), "--seed", str(seed)]
    bundle = out / "bundle" if can_ship() else None
    last = [SHIPPING] if bundle is not None else []
    with Bars([PREPARING, *(label for label, _ in plan), *last, PREDICTING], steps) as bars:
        report = run_demo(steps=steps, seed=seed, command=command, notice=bars.show, bundle=bundle)
    page = write_report(report, out)
    if as_json:
        show_json(report.as_dict())
    else:
        show(draw_runs(report))
    say(f"Wrote {page}")
    say(f"Wrote {bundle}" if bundle is not None else f"No bundle was written. To export: {install_line('onnx')}")
    if not all(check.passed for check in report.checks):
        complain("A check failed; see above and the report.")
        raise typer.Exit(CHECK_FAILED)
