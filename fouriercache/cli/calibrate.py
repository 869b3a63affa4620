"""`fouriercache calibrate`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

import typer

from fouriercache.calibration import calibrate as run_calibration
from fouriercache.calibration.calibrate import check_computed
from fouriercache.calibration.demo import count_calls, demo_set, seconds_of_a_call
from fouriercache.cli.asked import choose_method
from fouriercache.cli.options import (
    MOST_STEPS,
    DryRun,
    Guidance,
    Json,
    MethodName,
    Order,
    Seed,
    Settings,
    SiteName,
    examples,
)
from fouriercache.cli.speak import say, show, show_json
from fouriercache.errors import CalibrationError
from fouriercache.figures import format_seconds
from fouriercache.models.demo import GUIDANCE, load_demo_model, load_demo_scheduler
from fouriercache.paths import path_of
from fouriercache.report.console import draw_calibration

EXAMPLES = (
    examples(
        ("calibrate --dry-run", "how long it takes here"),
        ("calibrate --computed 7 --refine 1", "find 7 steps to compute, then refine the scalars as well"),
        ("calibrate --guidance 1.5 --guidance 4 --refine 1", "for more than one guidance weight"),
        ("calibrate --method TeaCache", "fit TeaCache's polynomial"),
    )
    + "\n\nUse the file: fc.optimize(model, fc.Tuned(), calibration='calibration.safetensors')"
)

_PROBES = 12
"""Steps at which a calibration measures the sensitivity."""

_COMPUTED, _TRIALS = 10, 60
"""What is taken where nothing is said."""


def calibrate(
    ctx: typer.Context,
    out: Annotated[Path, typer.Option(parser=path_of, metavar="PATH", help="The file to write.")] = Path(
        "calibration.safetensors"
    ),
    method: MethodName = "Tuned",
    site: SiteName = None,
    order: Order = None,
    settings: Settings = None,
    steps: Annotated[int, typer.Option(min=2, max=MOST_STEPS, help="Sampling steps.")] = 50,
    computed: Annotated[int | None, typer.Option(min=1, help="How many steps to compute, 10 if not given.")] = None,
    images: Annotated[int, typer.Option(min=1, help="Images in the calibration set.")] = 8,
    seed: Seed = 0,
    guidance: Guidance = None,
    trials: Annotated[
        int | None, typer.Option(min=1, help=f"Step tables that the search may try, {_TRIALS} if not given.")
    ] = None,
    refine: Annotated[int | None, typer.Option(min=0, help="Rounds of refining scalars against the result.")] = None,
    checkpoint: Annotated[
        Path | None,
        typer.Option(
            parser=path_of, metavar="PATH", help="Keeps every measurement, to go on from. Beside --out if not given."
        ),
    ] = None,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Find the steps to compute, on the shipped model: dynamic programming, then search with the cached result.

    Of a method that decides while it runs, fit the polynomial. A search broken off goes on where it was when the same
    command is run again.
    """
    chosen = choose_method(ctx, method, steps, settings, site=site, order=order)
    measures = chosen.schedule.indicator is not None
    asked = {"--computed": computed, "--trials": trials, "--refine": refine, "--checkpoint": checkpoint}
    if measures and (useless := [name for name, value in asked.items() if value is not None]):
        raise typer.BadParameter(
            f"{chosen.name} decides about steps itself; a polynomial is fitted to one run, which none of this changes.",
            param_hint=", ".join(useless),
        )
    wanted_steps = _COMPUTED if computed is None else computed
    if not measures:
        check_computed(wanted_steps, steps)
    model = load_demo_model()
    run = demo_set(images=images, seed=seed, steps=steps, guidance=guidance or [GUIDANCE])
    wanted: dict[str, Any] = {
        "steps": wanted_steps,
        "trials": _TRIALS if trials is None else trials,
        "refine": refine or 0,
        "probes": _PROBES,
    }
    kept = out.with_name(out.stem + ".checkpoint.safetensors") if checkpoint is None else checkpoint
    seconds = seconds_of_a_call(model, run) * (1 if guidance is None else len(guidance))
    seconds *= steps if measures else count_calls(num_steps=steps, **wanted)
    if dry_run:
        if as_json:
            plan = {"method": chosen.name, "steps": steps, "computed": None if measures else wanted["steps"]}
            show_json({**plan, "seconds": seconds})
        else:
            typer.echo(
                f"At most {format_seconds(seconds)} of sampling on this machine, plus capture. Nothing was written."
            )
        return
    if out.is_dir() or not out.parent.is_dir() or not os.access(out.parent, os.W_OK):
        raise typer.BadParameter(f"{out} is no file in a folder that can be written to.", param_hint="--out")
    keeps = "" if measures else f" Every measurement is kept in {kept}."
    again = (
        "" if measures else f"\n  Run it again with another --out and --checkpoint {kept}, which has every measurement."
    )
    say(f"At most {format_seconds(seconds)} of sampling, plus capture.{keeps}")
    scheduler = load_demo_scheduler()
    options = {} if measures else {**wanted, "checkpoint": kept}
    found = run_calibration(model, chosen, sample=run, num_steps=steps, scheduler=scheduler, **options)
    try:
        found.save(out)
    except OSError as error:
        raise CalibrationError(f"The calibration cannot be written: {error}.\n  where: {out}{again}") from error
    if as_json:
        show_json(found.as_dict())
    else:
        show(draw_calibration(found))
    say(f"Wrote {out}")
