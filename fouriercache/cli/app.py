"""The commands in the order of the help, and what their errors become."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from fouriercache.cli.analyze import EXAMPLES as ANALYZE
from fouriercache.cli.analyze import analyze
from fouriercache.cli.bench import EXAMPLES as BENCH
from fouriercache.cli.bench import bench
from fouriercache.cli.calibrate import EXAMPLES as CALIBRATE
from fouriercache.cli.calibrate import calibrate
from fouriercache.cli.check import EXAMPLES as CHECK
from fouriercache.cli.check import check
from fouriercache.cli.demo import EXAMPLES as DEMO
from fouriercache.cli.demo import demo
from fouriercache.cli.doctor import EXAMPLES as DOCTOR
from fouriercache.cli.doctor import doctor
from fouriercache.cli.exits import exit_code
from fouriercache.cli.export import EXAMPLES as EXPORT
from fouriercache.cli.export import export
from fouriercache.cli.inspect import EXAMPLES as INSPECT
from fouriercache.cli.inspect import inspect
from fouriercache.cli.optimize import EXAMPLES as OPTIMIZE
from fouriercache.cli.optimize import optimize
from fouriercache.cli.speak import complain, message_of
from fouriercache.errors import OptimizeError
from fouriercache.report.environment import find_version


class _Commands(TyperGroup):
    """Turns the package's errors into a message and an exit code. A defect of ours keeps its traceback."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except OptimizeError as error:
            code = exit_code(error)
            if code is None:
                raise
            complain(message_of(error))
            raise typer.Exit(code) from error


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


app.command(epilog=DEMO)(demo)
app.command(epilog=OPTIMIZE)(optimize)
app.command(epilog=CALIBRATE)(calibrate)
app.command(epilog=ANALYZE)(analyze)
app.command(epilog=EXPORT)(export)
app.command(epilog=BENCH)(bench)
app.command(epilog=INSPECT)(inspect)
app.command(epilog=CHECK)(check)
app.command(epilog=DOCTOR)(doctor)


def main() -> None:
    """Run the command line; the entry point of the installed script."""
    app()
