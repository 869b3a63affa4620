"""`fouriercache export`."""

from __future__ import annotations

from collections.abc import Mapping
from math import isfinite
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from fouriercache.bundle.folder import check_place
from fouriercache.bundle.manifest import Manifest
from fouriercache.cli.asked import ask
from fouriercache.cli.build import find_example, optimize_example
from fouriercache.cli.exits import CHECK_FAILED, ends_by_sigterm
from fouriercache.cli.options import (
    CacheDir,
    CalibrationFile,
    DryRun,
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
from fouriercache.cli.speak import complain, say, show, show_json, working
from fouriercache.errors import BundleError, PreconditionError, TargetError
from fouriercache.export import check_extras, check_weights, engines_for
from fouriercache.export import export as write_bundle
from fouriercache.export.steps_table import why_no_single_graph
from fouriercache.export.tensorrt import TARGETS, Profile
from fouriercache.export.triton import Runner, check_folder, check_servable, export_triton
from fouriercache.methods import Method
from fouriercache.models.examples import Example
from fouriercache.paths import path_of
from fouriercache.runtime.module import OptimizedModule
from fouriercache.steps import modes_of
from fouriercache.testing.bundle_loops import Difference, compare_bundle

EXAMPLES = examples(
    ("export --out bundle/", "ONNX graphs of every kind of step, over one file of weights"),
    ("export --target tensorrt:sm89", "and TensorRT plans for an RTX 40, built without a GPU"),
    ("export --target tensorrt:sm89 --batches 2,2,16", "plans for batches of 2 to 16, tuned for 2"),
    ("export --triton repository/", "and a model repository for Triton Inference Server"),
    ("export my_package.models:build --json", "your own model; the files, their sizes and hashes for a program"),
)


def export(
    ctx: typer.Context,
    model: Spec = "demo",
    out: Annotated[
        Path,
        typer.Option(parser=path_of, metavar="PATH", help="The bundle's folder. A bundle that is there is replaced."),
    ] = Path("bundle"),
    method: MethodName = "TaylorSeer",
    site: SiteName = "stack",
    interval: Interval = None,
    order: Order = None,
    settings: Settings = None,
    calibration: CalibrationFile = None,
    grid: Grid = None,
    steps: Steps = 50,
    target: Annotated[
        list[str] | None,
        typer.Option(help=f"An engine to build; may be given again. onnx (always written), {', '.join(TARGETS)}."),
    ] = None,
    batches: Annotated[str, typer.Option(help="Batch sizes of engines: least,typical,most.")] = "1,2,8",
    single_graph: Annotated[bool, typer.Option(help="Also write the whole step as one graph with one If.")] = True,
    triton: Annotated[
        Path | None, typer.Option(parser=path_of, metavar="PATH", help="Folder for a Triton model repository.")
    ] = None,
    triton_runner: Annotated[Runner, typer.Option(help="What runs it in Triton.")] = "onnxruntime",
    validate: Annotated[
        bool, typer.Option(help="Run a whole loop of the bundle in ONNX Runtime, and compare it with eager.")
    ] = True,
    cache_dir: CacheDir = None,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Optimise a model and write what ships: a bundle that runs without its code, engines, models for a server."""
    # what cannot be done is said before the work begins, and by a dry run as well
    sizes = _sizes(batches)
    check_extras()
    engines_for(target or [], sizes)
    _check_folders(out, triton)
    asked = ask(ctx, method, steps, settings, calibration, grid, site=site, interval=interval, order=order)
    chosen, steps = asked.running(), asked.steps
    if triton is None:
        refuse_useless(ctx, ["triton_runner"], "Nothing is written for Triton: give its folder, --triton.")
        if set(target or []) <= {"onnx"}:
            refuse_useless(
                ctx, ["batches"], "ONNX graphs take any batch: it is for --target tensorrt:... and --triton."
            )
    if single_graph and (reason := why_no_single_graph(chosen)) is not None:
        refuse_useless(ctx, ["single_graph"], f"{chosen.name} has no single graph: {reason}.")
    if triton is not None:
        check_servable(chosen, steps)
    example = find_example(model)
    check_weights(example.model)
    if dry_run:
        if asked.calibration is not None:
            asked.calibration.check_model(example.model)
        _say_plan(_planned(model, chosen, out, target or [], triton, single_graph=single_graph), as_json=as_json)
        return
    with ends_by_sigterm():
        fast = optimize_example(model, example, asked, cache_dir)
        with _Files() as files:
            manifest = write_bundle(
                fast, out, targets=["onnx", *(target or [])], batches=sizes, single_graph=single_graph,
                notice=files.begin, progress=files.move,
            )  # fmt: skip
        say(f"Wrote {out}")
        if triton is not None:
            with working(f"Writing {triton}"):
                export_triton(out, triton, runner=triton_runner, batches=sizes)
            say(f"Wrote {triton}")
        differences = _compare(fast, out, example, manifest, steps) if validate else ()
    if as_json:
        show_json(_as_dict(manifest, out, triton) | {"differences": [_difference(found) for found in differences]})
    else:
        show(_draw(manifest))
        for found in differences:
            what = "met" if found.is_met else "missed"
            typer.echo(
                f"{what}  {found.graphs}, {found.output}: differs from eager by {found.worst:.1e}, allowed "
                f"{found.tolerance:.0e}"
            )
    if not all(found.is_met for found in differences):
        complain("The bundle does not compute what the module computes; see above.")
        raise typer.Exit(CHECK_FAILED)


_COMPARED = ("float32", "float16", "float64")


def _difference(found: Difference) -> dict[str, Any]:
    return vars(found) | {"worst": found.worst if isfinite(found.worst) else None, "is_met": found.is_met}


def _compare(
    fast: OptimizedModule, out: Path, example: Example, manifest: Manifest, steps: int
) -> tuple[Difference, ...]:
    """Compare a loop of the bundle with eager, where it can be."""
    if manifest.model.dtype not in _COMPARED:
        say(f"Not compared with eager: ONNX Runtime's CPU provider has no {manifest.model.dtype}.")
        return ()
    try:
        with working(f"Running {steps} steps of {out} in ONNX Runtime, and in eager"):
            return compare_bundle(fast, out, example.inputs, num_steps=steps)
    except PreconditionError as error:
        say(f"Not compared with eager: {error}")
        return ()


def _planned(
    model: str, method: Method, out: Path, targets: list[str], triton: Path | None, *, single_graph: bool
) -> dict[str, Any]:
    """What would be written."""
    has_single = single_graph and why_no_single_graph(method) is None
    return {
        "model": model,
        "method": repr(method),
        "bundle": str(out),
        "graphs": [*modes_of(method), *(["probe"] if method.schedule.indicator is not None else [])],
        "single_graph": "step.onnx" if has_single else None,
        "targets": targets,
        "triton": None if triton is None else str(triton),
    }


def _say_plan(planned: Mapping[str, Any], *, as_json: bool) -> None:
    if as_json:
        show_json(planned)
        return
    single = f", and all in one as {planned['single_graph']}" if planned["single_graph"] else ""
    typer.echo(f"{planned['bundle']} would have the graphs {', '.join(planned['graphs'])}{single}.")
    typer.echo(f"They are of {planned['method']} on {planned['model']}.")
    engines = [target for target in planned["targets"] if target != "onnx"]
    if engines:
        typer.echo(f"It would have plans for {', '.join(engines)}.")
    if planned["triton"]:
        typer.echo(f"{planned['triton']} would have a model repository for Triton Inference Server.")
    typer.echo("Nothing was written.")


def _check_folders(out: Path, triton: Path | None) -> None:
    """Refuse folders that cannot be written to, before the work begins."""
    try:
        check_place(out)
    except BundleError as error:
        raise typer.BadParameter(str(error), param_hint="--out") from error
    if triton is not None:
        check_folder(triton)
        if triton.resolve().is_relative_to(out.resolve()):
            raise typer.BadParameter(f"{triton} lies in the bundle's own folder, {out}.", param_hint="--triton")


def _sizes(text: str) -> tuple[int, int, int]:
    parts = text.split(",")
    if len(parts) != 3 or not all(part.strip().isdecimal() for part in parts):
        raise TargetError(f"--batches takes three whole numbers, least,typical,most, as 1,2,8; got {text!r}.")
    return Profile(*map(int, parts)).sizes()


def _as_dict(manifest: Manifest, out: Path, triton: Path | None) -> dict[str, Any]:
    return {
        "bundle": str(out),
        "method": repr(manifest.method),
        "files": {name: {"bytes": file.bytes, "sha256": file.sha256} for name, file in manifest.files.items()},
        "plans": {
            target: {entry["file"]: entry["facts"] for entry in found.values()} for target, found in _plans(manifest)
        },
        "triton": None if triton is None else str(triton),
    }


def _plans(manifest: Manifest) -> list[tuple[str, Mapping[str, Any]]]:
    return [(target, entries) for target, entries in manifest.plans.items() if target.startswith("tensorrt:")]


def _draw(manifest: Manifest) -> Table:
    facts = {entry["file"]: entry["facts"] or {} for _, entries in _plans(manifest) for entry in entries.values()}
    table = Table("file", "bytes", "a plan's", box=None, header_style="dim")
    table.columns[1].justify = "right"
    for name, file in manifest.files.items():
        known = facts.get(name, {})
        words = [f"{known['gemms']} matrix products", f"{known['host_branches']} branches"] if known else []
        words += ["capturable" if known["capturable"] else "not capturable"] if known else []
        table.add_row(name, f"{file.bytes:,}", ", ".join(words))
    return table


class _Files:
    """A line on stderr for each file that is made, with a bar for those that say how far they are."""

    def __init__(self) -> None:
        columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
        self._progress = Progress(*columns, console=Console(stderr=True))
        self._tasks: dict[str, Any] = {}
        self._last = ""

    def __enter__(self) -> _Files:
        self._progress.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self._end()
        self._progress.stop()

    def begin(self, name: str) -> None:
        """A file is about to be made; the one before it is done."""
        self._end()
        self._tasks[name] = self._progress.add_task(name, total=None)
        self._last = name

    def move(self, name: str, share: float) -> None:
        """So much of a file is done, 0 to 1."""
        self._progress.update(self._tasks[name], total=1.0, completed=share)

    def _end(self) -> None:
        if self._last:
            self._progress.update(self._tasks[self._last], total=1.0, completed=1.0)
