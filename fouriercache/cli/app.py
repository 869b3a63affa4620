"""The commands in the order of the help, and what their errors become.

A command's file is read when the command runs: what they need takes seconds to import, and the help needs none of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from types import MappingProxyType
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from fouriercache.cli.exits import exit_code
from fouriercache.cli.speak import complain, message_of
from fouriercache.errors import OptimizeError
from fouriercache.report.environment import find_version

COMMANDS: Mapping[str, str] = MappingProxyType(
    {
        "demo": "Sample with the shipped model, uncached and cached, and write an HTML report.",
        "optimize": (
            "Say what a method makes of a model: sites, refusals, the cost of each kind of step and of a trajectory."
        ),
        "calibrate": (
            "Find the steps to compute, on the shipped model: dynamic programming, then search with the cached result."
        ),
        "analyze": (
            "Show in which temporal and spatial frequencies the shipped model's features live, without any caching."
        ),
        "export": (
            "Optimise a model and write what ships: a bundle that runs without its code, engines, models for a server."
        ),
        "bench": (
            "Time a model's own denoising loop and the cached one, in turns, and the kinds of steps by themselves."
        ),
        "inspect": (
            "Optimise a model and say what was found: sites, refusals, token grid, cost of each mode; or print a graph."
        ),
        "check": (
            "Build the models of golden files again, and compare their rewritten graphs with the files; or verify a "
            "bundle."
        ),
        "doctor": (
            "Say what this machine has: versions, extras, backends, threads, and whether the shipped model loads."
        ),
    }
)
"""The first paragraph of each command's help, by its name."""


class _Commands(TyperGroup):
    """Turns the package's errors into a message and an exit code. A defect of ours keeps its traceback."""

    def list_commands(self, ctx: Any) -> list[str]:
        del ctx
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """A command's name and its first paragraph: what the help lists."""
        del ctx
        return _command(cmd_name, lambda: None, help=COMMANDS[cmd_name]) if cmd_name in COMMANDS else None

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        """The command itself: what runs, and what its own help and a shell's completion ask for."""
        name, found, rest = super().resolve_command(ctx, args)
        return name, None if found is None else load_command(str(name)), rest

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except OptimizeError as error:
            code = exit_code(error)
            if code is None:
                raise
            complain(message_of(error))
            raise typer.Exit(code) from error


def load_command(name: str) -> Any:
    """Read the file of a command and return it."""
    module = import_module(f"fouriercache.cli.{name}")
    return _command(name, getattr(module, name), epilog=module.EXAMPLES)


def _command(name: str, function: Any, **about: str) -> Any:
    alone = typer.Typer(rich_markup_mode="rich", add_completion=False, pretty_exceptions_enable=False)
    alone.command(name, **about)(function)  # type: ignore[arg-type]  # the keywords of typer's decorator differ in type
    return typer.main.get_command(alone)


app = typer.Typer(
    cls=_Commands,
    name="fouriercache",
    help="A compiler for diffusion transformers: feature caching as graph rewrites.",
    epilog="Exit codes: 0 done, 1 a check failed, 2 bad use, 3 cannot be done here.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(value: bool) -> None:
    if value:
        typer.echo(find_version("fouriercache") or "run from its sources")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Options before the command."""


def main() -> None:
    """Run the command line; the entry point of the installed script."""
    app()
