"""`fouriercache analyze`."""

from __future__ import annotations

from typing import Annotated

import typer

from fouriercache.calibration import analyze as run_analysis
from fouriercache.calibration.analyze import check_question
from fouriercache.calibration.demo import demo_set, seconds_of_a_call
from fouriercache.cli.options import MOST_STEPS, DryRun, Guidance, Json, Seed, examples
from fouriercache.cli.speak import say, show_json
from fouriercache.figures import format_seconds
from fouriercache.methods import SITES
from fouriercache.models.demo import GUIDANCE, load_demo_model

EXAMPLES = examples(
    ("analyze", "spectra of every attention and MLP"),
    ("analyze --site stack --tolerance 0.01", "of the stack's residual, and what it takes to follow 99 % of it"),
)


def analyze(
    site: Annotated[str, typer.Option(help=f"Where features are looked at: {', '.join(SITES)}.")] = "branch",
    steps: Annotated[int, typer.Option(min=2, max=MOST_STEPS, help="Sampling steps.")] = 50,
    images: Annotated[int, typer.Option(min=1, help="Images that are sampled.")] = 2,
    seed: Seed = 0,
    guidance: Guidance = None,
    tolerance: Annotated[
        float, typer.Option(help="What may lie above a site's bandwidth, as a share of its feature.")
    ] = 0.1,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Show in which temporal and spatial frequencies the shipped model's features live, without any caching.

    The interval is what a site's bandwidth asks for by the sampling theorem.
    """
    check_question(site, tolerance)
    model, run = load_demo_model(), demo_set(images=images, seed=seed, steps=steps, guidance=guidance or [GUIDANCE])
    seconds = steps * seconds_of_a_call(model, run)
    if dry_run:
        if as_json:
            show_json({"site": site, "steps": steps, "seconds": seconds})
        else:
            typer.echo(f"About {format_seconds(seconds)} of sampling on this machine, plus capture.")
        return
    say(f"About {format_seconds(seconds)} of sampling, plus capture.")
    found = run_analysis(model, num_steps=steps, site=site, sample=run, tolerance=tolerance)
    if as_json:
        show_json(found.as_dict())
    else:
        typer.echo(found.table())
