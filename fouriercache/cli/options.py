"""Options that several commands have, and how a command's examples are written."""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite
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


def _finite(values: list[float] | None) -> list[float] | None:
    if values and not all(map(isfinite, values)):
        raise typer.BadParameter("A guidance weight is a finite number.")
    return values


Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
Steps = Annotated[int, typer.Option(min=1, max=MOST_STEPS, help="Sampling steps.")]
Seed = Annotated[int, typer.Option(min=0, max=2**63 - 1, help="Seed of the noise.")]
Guidance = Annotated[
    list[float] | None,
    typer.Option(
        callback=_finite,
        help=f"Guidance weight of the sampled images, {GUIDANCE} if not given; say it again for more weights.",
    ),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would run and for how long; write nothing.")]
Spec = Annotated[
    str,
    typer.Argument(
        metavar="MODEL", help=f"{', '.join(SPECS)}; NAME@BLOCKS for fewer blocks; or package.module:function of yours."
    ),
]
MethodName = Annotated[
    str, typer.Option("--method", help=f'A preset: {", ".join(PRESETS)}; or one written out: "TaylorSeer(interval=5)".')
]
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
Order = Annotated[int | None, typer.Option(min=0, max=MOST_STEPS - 1, help="The method's order, if it has one.")]
Interval = Annotated[
    int | None, typer.Option(min=1, max=MOST_STEPS, help="The method's interval; its own default if not given.")
]
Settings = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Another option of the method, as its page has it: --set ridge=0.01, --set 'codec=LowPass(0.25)'. May be "
        "given again.",
    ),
]
CalibrationFile = Annotated[
    Path | None,
    typer.Option(
        "--calibration",
        parser=path_of,
        metavar="FILE",
        help="What `fouriercache calibrate` wrote: its steps take the place of the method's.",
    ),
]
Grid = Annotated[
    str | None,
    typer.Option(metavar="T,H,W", help="The token grid where the graph does not show it: frames, rows, tokens a row."),
]


def refuse_useless(ctx: typer.Context, names: Sequence[str], reason: str) -> None:
    """Refuse those options, by the names of their parameters, that were typed although nothing would read them.

    Raises typer.BadParameter, with `reason`: what they are for, and what to do instead.
    """
    flags = {parameter.name: parameter.opts[0] for parameter in ctx.command.params}
    hints = [flags[name] for name in names if is_typed(ctx, name)]
    if hints:
        raise typer.BadParameter(f"{reason} Leave out {' and '.join(hints)}.", ctx, param_hint=", ".join(hints))


def is_typed(ctx: typer.Context, name: str) -> bool:
    """Whether the option of that parameter was typed, and is no default."""
    source = ctx.get_parameter_source(name)
    # by its name: some versions of typer have a click of their own
    return source is not None and source.name == "COMMANDLINE"


def examples(*pairs: tuple[str, str]) -> str:
    """Return a command's epilog from (what is typed behind `fouriercache`, what it does)."""
    lines = [f"[bold]fouriercache {typed}[/bold]\n    {what}" for typed, what in pairs]
    return "Examples:\n\n" + "\n\n".join(lines)
