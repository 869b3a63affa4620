"""What is asked for of a method, for every command alike: a preset and its options, steps, calibration, token grid."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer

from fouriercache.calibrations import Calibration
from fouriercache.cli.options import is_typed, refuse_useless
from fouriercache.cli.written import method_from_text, value_from_text
from fouriercache.methods import Method
from fouriercache.presets import method_for
from fouriercache.program import TokenGrid

_OWN = {"site": "--site", "interval": "--interval", "order": "--order", "num_steps": "--steps"}
"""Keywords of presets that have an option of their own."""


@dataclass(frozen=True)
class Asked:
    """A method as it was typed, the number of steps of a trajectory, and what `optimize` is told beside them."""

    method: Method
    steps: int
    calibration: Calibration | None = None
    grid: TokenGrid | None = None

    def running(self) -> Method:
        """Return the method that runs: with what was calibrated in the place of its own.

        Raises CalibrationError when the calibration was made for another method or number of steps.
        """
        return self.method if self.calibration is None else self.calibration.calibrated(self.method, self.steps)


def ask(
    ctx: typer.Context,
    method: str,
    steps: int,
    settings: Sequence[str] | None,
    calibration: Path | None,
    grid: str | None,
    **options: object,
) -> Asked:
    """Return what a command's options ask for.

    Args:
        ctx: of the command; steps that were not typed are the calibration's, if there is one.
        options: of the method that were typed, None for those that were not.

    Raises:
        typer.BadParameter: `settings` or `grid` cannot be read, or contradict the other options.
        OptimizeError: there is no such method, it does not take these options, or the calibration cannot be read.
    """
    found = None if calibration is None else Calibration.load(calibration)
    if found is not None and not is_typed(ctx, "steps"):
        steps = found.num_steps
    return Asked(choose_method(ctx, method, steps, settings, **options), steps, found, _grid(grid))


def choose_method(
    ctx: typer.Context, name: str, steps: int, settings: Sequence[str] | None, **options: object
) -> Method:
    """Return the preset called `name`, or the method that it is when written out: TaylorSeer(interval=5).

    Options that were not given, None, are the preset's own defaults. Raises as `ask` does.
    """
    if "(" in name:
        refuse_useless(ctx, [*options, "settings"], "A method that is written out has its options in it.")
        return method_from_text(name)
    given = {key: value for key, value in options.items() if value is not None}
    return method_for(name, steps, **given, **_read(settings or ()))


def _read(settings: Sequence[str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for setting in settings:
        key, sign, text = setting.partition("=")
        if not sign or not key.isidentifier():
            raise _bad(f"{setting!r} is no KEY=VALUE, as ridge=0.1.")
        if key in _OWN:
            raise _bad(f"{key} has an option of its own: {_OWN[key]}.")
        if key in found:
            raise _bad(f"{key} is given twice.")
        try:
            found[key] = value_from_text(text)
        except (SyntaxError, ValueError, TypeError, RecursionError) as error:
            raise _bad(
                f"The value of {key} cannot be read: {text!r} is neither a value of Python (0.1, True, (0, 9), 'text') "
                f"nor a part of a method (LowPass(keep=0.25)). A text needs its quotes: --set \"{key}='{text}'\"."
            ) from error
    return found


def _grid(text: str | None) -> TokenGrid | None:
    if text is None:
        return None
    parts = text.split(",")
    if len(parts) not in (3, 4) or not all(part.strip().isdecimal() for part in parts):
        raise typer.BadParameter(
            f"A grid is three whole numbers, frames, rows and tokens in a row, as 1,16,16; got {text!r}. A fourth is "
            "the place of its first token.",
            param_hint="--grid",
        )
    return TokenGrid(*map(int, parts))


def _bad(message: str) -> typer.BadParameter:
    return typer.BadParameter(message, param_hint="--set")
