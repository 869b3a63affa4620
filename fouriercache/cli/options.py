"""Options that several commands have, and how a command's examples are written."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from fouriercache.methods import SITES
from fouriercache.models.demo import GUIDANCE
from fouriercache.models.examples import SPECS
from fouriercache.optimize import CACHE_DIR
from fouriercache.paths import path_of
from fouriercache.presets import PRESETS

MOST_STEPS = 1000
"""The demo model was trained on this many timesteps; more steps than that do not exist."""

Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
Steps = Annotated[int, typer.Option(min=1, max=MOST_STEPS, help="Sampling steps.")]
Seed = Annotated[int, typer.Option(min=0, max=2**63 - 1, help="Seed of the noise.")]
Guidance = Annotated[
    list[float] | None,
    typer.Option(
        help=f"Guidance weight of the sampled images, {GUIDANCE} if not given; say it again for more weights."
    ),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would run and for how long; write nothing.")]
Spec = Annotated[
    str,
    typer.Argument(
        metavar="MODEL", help=f"{', '.join(SPECS)}; NAME@BLOCKS for fewer blocks; or package.module:function of yours."
    ),
]
MethodName = Annotated[str, typer.Option("--method", help=f"A preset: {', '.join(PRESETS)}.")]
SiteName = Annotated[str | None, typer.Option("--site", help=f"Where values are replaced: {', '.join(SITES)}.")]
CacheDir = Annotated[
    Path | None,
    typer.Option(
        "--cache-dir",
        parser=path_of,
        metavar="PATH",
        envvar=CACHE_DIR,
        help="Keep captures in this folder, and look there first; made if it is not there.",
    ),
]
Order = Annotated[int | None, typer.Option(help="The method's order, if it has one.")]
Interval = Annotated[int | None, typer.Option(help="The method's interval; its own default if not given.")]


def refuse_useless(ctx: typer.Context, names: Sequence[str], reason: str) -> None:
    """Refuse those options, by the names of their parameters, that were typed although nothing would read them.

    Raises typer.BadParameter, with `reason`: what they are for, and what to do instead.
    """
    sources = {name: ctx.get_parameter_source(name) for name in names}
    # by its name: some versions of typer have a click of their own
    typed = [name for name, source in sources.items() if source is not None and source.name == "COMMANDLINE"]
    if typed:
        hints = ["--" + name.replace("_", "-") for name in typed]
        raise typer.BadParameter(f"{reason} Leave out {' and '.join(hints)}.", ctx, param_hint=", ".join(hints))


def examples(*pairs: tuple[str, str]) -> str:
    """Return a command's epilog from (what is typed behind `fouriercache`, what it does)."""
    lines = [f"[bold]fouriercache {typed}[/bold]\n    {what}" for typed, what in pairs]
    return "Examples:\n\n" + "\n\n".join(lines)
