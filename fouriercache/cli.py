"""The command line. Progress goes to stderr, the result to stdout; `--json` makes the result JSON and nothing else.

Exit codes: 0 done, 1 a check failed, 2 bad use, 3 cannot be done here.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from typer.core import TyperGroup

from fouriercache.calibration import calibrate as run_calibration
from fouriercache.calibration.demo import count_calls, demo_set, seconds_of_a_call
from fouriercache.errors import CalibrationError, MethodError, OptimizeError, PassError, PreconditionError, VerifyError
from fouriercache.methods import SITES
from fouriercache.models.demo import GUIDANCE, load_demo_model, load_demo_scheduler
from fouriercache.optimize import optimize
from fouriercache.presets import PRESETS, method_from_name
from fouriercache.report.console import draw_calibration, draw_facts, draw_findings, draw_plan, draw_runs
from fouriercache.report.data import graph_as_dict
from fouriercache.report.demo import PREPARING, choose_settings, estimate_seconds, run_demo, warm_up
from fouriercache.report.environment import Finding, examine, find_version
from fouriercache.report.facts import collect_facts
from fouriercache.report.figures import format_seconds
from fouriercache.report.files import prepare_folder, write_report

CHECK_FAILED, BAD_USE, CANNOT_BE_DONE_HERE = 1, 2, 3
_MOST_STEPS = 1000
"""The demo model was trained on this many timesteps; more steps than that do not exist."""
_PROBES = 12
"""Steps at which a calibration measures the sensitivity."""


class _Commands(TyperGroup):
    """Turns the package's errors into a message and an exit code. A defect of ours keeps its traceback."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except (PassError, VerifyError):
            raise
        except OptimizeError as error:
            _complain(str(error))
            bad_use = isinstance(error, MethodError | PreconditionError | CalibrationError)
            raise typer.Exit(BAD_USE if bad_use else CANNOT_BE_DONE_HERE) from error


app = typer.Typer(
    cls=_Commands,
    name="fouriercache",
    help="A compiler for diffusion transformers: feature caching as graph rewrites.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

_JsonOption = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
_StepsOption = Annotated[int, typer.Option(min=1, max=_MOST_STEPS, help="Sampling steps.")]


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


def _complain(message: str) -> None:
    Console(stderr=True, soft_wrap=True).print(message, style="red", markup=False, highlight=False)


def _say(message: str) -> None:
    Console(stderr=True, soft_wrap=True).print(message, markup=False, highlight=False)


def _print(result: RenderableType) -> None:
    Console().print(result)


def _print_json(result: Any) -> None:
    typer.echo(json.dumps(result, indent=2, allow_nan=False))


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Folder for report.html and results.json.")] = Path("demo_output"),
    steps: _StepsOption = 50,
    seed: Annotated[int, typer.Option(min=0, max=2**63 - 1, help="Seed of the noise.")] = 0,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would run and for how long; write nothing.")
    ] = False,
    as_json: _JsonOption = False,
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
            _print_json({"steps": steps, "loops": loops, "sampling_seconds": seconds})
        else:
            _print(draw_plan(plan, steps))
            typer.echo(
                f"\nAbout {format_seconds(seconds)} of sampling on this machine, plus capture. Nothing was written."
            )
        return
    _say(f"{len(plan)} loops of {steps} steps: about {format_seconds(seconds)} of sampling, plus capture.")
    command = ["fouriercache", "demo", "--out", str(out), "--steps", str(steps), "--seed", str(seed)]
    with _Bars([PREPARING, *(label for label, _ in plan)], steps) as bars:
        report = run_demo(steps=steps, seed=seed, command=command, notice=bars.show)
    page = write_report(report, out)
    if as_json:
        _print_json(report.as_dict())
    else:
        _print(draw_runs(report))
    _say(f"Wrote {page}")
    if not all(check.passed for check in report.checks):
        _complain("A check failed; see above and the report.")
        raise typer.Exit(CHECK_FAILED)


@app.command(
    epilog="Examples: `fouriercache calibrate --dry-run` says how long it takes. `fouriercache calibrate --computed 7 "
    "--refine 1` also refines the scalars. `fouriercache calibrate --method TeaCache` fits TeaCache's polynomial. "
    "Use the file: `fc.optimize(model, fc.Tuned(), calibration='calibration.safetensors')`."
)
def calibrate(
    out: Annotated[Path, typer.Option(help="The file to write.")] = Path("calibration.safetensors"),
    method: Annotated[str, typer.Option(help=f"A preset: {', '.join(PRESETS)}.")] = "Tuned",
    site: Annotated[str | None, typer.Option(help=f"Where values are replaced: {', '.join(SITES)}.")] = None,
    order: Annotated[int | None, typer.Option(help="The method's order, if it has one.")] = None,
    steps: Annotated[int, typer.Option(min=2, max=_MOST_STEPS, help="Sampling steps.")] = 50,
    computed: Annotated[int, typer.Option(min=1, help="How many steps to compute.")] = 10,
    images: Annotated[int, typer.Option(min=1, help="Images in the calibration set.")] = 8,
    seed: Annotated[int, typer.Option(min=0, max=2**63 - 1, help="Seed of the noise.")] = 0,
    guidance: Annotated[float, typer.Option(help="Guidance weight of the calibration set.")] = GUIDANCE,
    trials: Annotated[int, typer.Option(min=1, help="Step tables that the search may try.")] = 60,
    refine: Annotated[int, typer.Option(min=0, help="Rounds of refining scalars against the result.")] = 0,
    checkpoint: Annotated[
        Path | None, typer.Option(help="Keeps every measurement, to go on from. Beside --out if not given.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would run and for how long; write nothing.")
    ] = False,
    as_json: _JsonOption = False,
) -> None:
    """Find the steps to compute, on the shipped model: dynamic programming, then search with the cached result.

    Broken off, it goes on where it was when the same command is run again.
    """
    given = {"site": site, "order": order}
    chosen = method_from_name(method, **{name: value for name, value in given.items() if value is not None})
    measures = chosen.schedule.indicator is not None
    model, run = load_demo_model(), demo_set(images=images, seed=seed, steps=steps, guidance=guidance)
    calls = count_calls(steps=steps, computed=computed, probes=_PROBES, trials=trials, refine=refine)
    seconds = (steps if measures else calls) * seconds_of_a_call(model, run)
    kept = out.with_name(out.stem + ".checkpoint.safetensors") if checkpoint is None else checkpoint
    if dry_run:
        if as_json:
            _print_json({"method": chosen.name, "steps": steps, "computed": computed, "seconds": seconds})
        else:
            typer.echo(
                f"At most {format_seconds(seconds)} of sampling on this machine, plus capture. Nothing was written."
            )
        return
    if out.is_dir() or not out.parent.is_dir():
        raise typer.BadParameter(f"{out} is no file in a folder that is there.", param_hint="--out")
    _say(f"At most {format_seconds(seconds)} of sampling, plus capture. Every measurement is kept in {kept}.")
    wanted: dict[str, Any] = (
        {} if measures else {"steps": computed, "trials": trials, "refine": refine, "probes": _PROBES}
    )
    scheduler = load_demo_scheduler()
    found = run_calibration(model, chosen, sample=run, num_steps=steps, scheduler=scheduler, checkpoint=kept, **wanted)
    found.save(out)
    if as_json:
        _print_json(found.as_dict())
    else:
        _print(draw_calibration(found))
    _say(f"Wrote {out}")


@app.command()
def inspect(
    method: Annotated[str, typer.Option(help=f"A preset: {', '.join(PRESETS)}.")] = "TaylorSeer",
    site: Annotated[str, typer.Option(help=f"Where values are replaced: {', '.join(SITES)}.")] = "branch",
    interval: Annotated[int | None, typer.Option(help="The method's interval; its own default if not given.")] = None,
    order: Annotated[int | None, typer.Option(help="The method's order, if it has one.")] = None,
    steps: _StepsOption = 50,
    program: Annotated[
        str | None, typer.Option(help="Print a program's text instead: canonical, compute, reuse.")
    ] = None,
    as_json: _JsonOption = False,
) -> None:
    """Optimise the shipped model and say what was found: sites, refusals, token grid, cost of each mode."""
    given = {"interval": interval, "order": order}
    chosen = method_from_name(method, site=site, **{name: value for name, value in given.items() if value is not None})
    with Console(stderr=True).status("Capturing and rewriting the shipped model"):
        fast = optimize(load_demo_model(), chosen, num_steps=steps)
        warm_up(fast, chosen.schedule.steps(steps) or (), steps)
        facts = collect_facts(fast, chosen.name, chosen.site)
        text = None if program is None else fast.program(program).text()
    if as_json:
        _print_json(graph_as_dict(facts) | ({} if text is None else {"program": text}))
    elif text is not None:
        typer.echo(text, nl=False)
    else:
        _print(draw_facts(facts))


@app.command()
def doctor(as_json: _JsonOption = False) -> None:
    """Say what this machine has: versions, extras, backends, threads, and whether the shipped model loads."""
    findings = (*examine(), _examine_model())
    if as_json:
        _print_json([vars(finding) for finding in findings])
    else:
        _print(draw_findings(findings))
    if any(finding.state == "bad" for finding in findings):
        raise typer.Exit(CHECK_FAILED)


def _examine_model() -> Finding:
    try:
        count = sum(parameter.numel() for parameter in load_demo_model().parameters())
    except OptimizeError as error:
        what, _, advice = str(error).partition("\n")
        return Finding("Demo model", "weights", what, "bad", advice.strip())
    return Finding("Demo model", "weights", f"loaded, {count:,} parameters")


class _Bars:
    """Progress bars on stderr, one for each loop."""

    def __init__(self, labels: list[str], steps: int) -> None:
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[note]}", style="dim"),
            console=Console(stderr=True),
        )
        self._tasks = {label: self._progress.add_task(label, total=steps, note="") for label in labels}

    def __enter__(self) -> _Bars:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def show(self, label: str, done: int, total: int) -> None:
        """Move the bar called `label`."""
        task = self._tasks[label]
        note = "" if done < total else "done"
        self._progress.update(task, completed=done, total=total, note=note)


def main() -> None:
    """Run the command line; the entry point of the installed script."""
    app()
