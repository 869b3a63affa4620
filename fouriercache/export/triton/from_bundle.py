"""From a bundle to a Triton model repository."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

from fouriercache.bundle.folder import folder_of, read_folder
from fouriercache.bundle.manifest import Form, Graph, Manifest, Step
from fouriercache.errors import LoweringError, TargetError
from fouriercache.export.steps_table import is_known_beforehand
from fouriercache.export.tensorrt import Profile
from fouriercache.export.triton.config import Kind, Runner
from fouriercache.export.triton.repository import Served, write_repository
from fouriercache.methods import Method
from fouriercache.paths import path_of


def export_triton(
    bundle: str | PathLike[str],
    folder: str | PathLike[str],
    *,
    name: str = "denoiser",
    form: int = 0,
    runner: Runner = "onnxruntime",
    kind: Kind = "gpu",
    instances: int = 1,
    batches: tuple[int, int, int] = (1, 2, 8),
    accelerator: Mapping[str, str] | None = None,
) -> None:
    """Write what a bundle holds as a model repository for Triton Inference Server.

    Args:
        bundle: folder that `export` wrote. folder: of the repository; it must be empty or not there.
        name: of the models: the whole step is served as `name`, its modes as `name_compute` and so on. Letters, digits,
            "_", "-", and "." but not in front.
        form: which of the bundle's forms of call, that is, which resolution.
        runner: "onnxruntime", or "tensorrt", whose plans are built by a script in the server's own container.
        kind: "gpu" or "cpu". instances: of each model on each device.
        batches: (least, typical, most); sequences have the typical one, the others are for plans.
        accelerator: options of ONNX Runtime's TensorRT provider; None does without it.

    Raises:
        PathError: `folder` is no path.
        BundleError: `bundle` is none, or not what its manifest says.
        TargetError: the folder is not empty, the name is none for a model, or an option makes no sense.
        LoweringError: the schedule decides while a trajectory runs, a tensor is of a kind that Triton does not serve,
            or the repository could not be written.
        MissingExtraError: the extra `onnx` is not installed.
    """
    holder, target = folder_of(bundle), path_of(folder)
    served = _served(holder, name, form)
    if target.resolve().is_relative_to(holder.resolve()):
        raise TargetError(
            f"{target} lies in the bundle's own folder, {holder}: the next export would remove it.\n"
            "  Name a folder beside it."
        )
    write_repository(
        served, target, runner=runner, kind=kind, instances=instances, profile=Profile.of(batches),
        accelerator=accelerator,
    )  # fmt: skip


def _served(folder: Path, name: str, number: int) -> Served:
    manifest = read_folder(folder)
    if not 0 <= number < len(manifest.forms):
        raise TargetError(
            f"the bundle has no form {number} of call.\n"
            + "\n".join(f"  form {position}: {form.call}" for position, form in enumerate(manifest.forms))
        )
    form, steps = manifest.forms[number], manifest.trajectory.steps
    if steps is None:
        raise _no_table(str(folder))
    graphs = {_key(mode.mode, mode.refreshed): mode.parts.whole for mode in form.modes}
    single = form.single
    return Served(
        name,
        {key: folder / graph.file for key, graph in graphs.items()},
        None if single is None else folder / single.file,
        _columns(form),
        states_of([*graphs.values(), *([] if single is None else [single])]),
        [_row(number, step, graphs, single) for number, step in enumerate(steps)],
        _about(manifest, form),
    )


def check_servable(method: Method, num_steps: int) -> None:
    """Raise LoweringError when the bundle of a method could not be written as a model repository."""
    if not is_known_beforehand(method, num_steps):
        raise _no_table(repr(method))


def _no_table(where: str) -> LoweringError:
    return LoweringError(
        "the schedule or the predictor decides while a trajectory runs, or the number of steps is not known, so there "
        f"is no table of steps for a client to follow.\n  where: {where}\n"
        "  Export with optimize(..., num_steps=) and a schedule that is fixed beforehand, such as fc.Table."
    )


def _key(mode: str, refreshed: Sequence[int]) -> str:
    """A mode's name: `reuse`, or `reuse_1_3` where the sites 1 and 3 are computed all the same."""
    return "_".join([mode, *map(str, refreshed)])


def _columns(form: Form) -> dict[str, list[str]]:
    """Each output that is kept, and its slots, the newest in front."""
    found: dict[str, list[str]] = {}
    for name, slot in sorted(form.slots.items(), key=lambda entry: entry[1].age):
        found.setdefault(slot.column, []).append(name)
    return found


def states_of(graphs: Sequence[Graph]) -> dict[str, list[str]]:
    """Each input that takes a value of the last step, and what that is called where a graph returns it."""
    found: dict[str, list[str]] = {
        given.name: [] for graph in graphs for given in graph.inputs if given.role == "state"
    }
    for graph in graphs:
        for output in graph.outputs:
            if output.role == "state" and output.graph_name not in found.get(output.name, [output.graph_name]):
                found[output.name].append(output.graph_name)
    return found


def _row(number: int, step: Step, graphs: Mapping[str, Graph], single: Graph | None) -> dict[str, Any]:
    """What a step runs, for `schedule.json`."""
    key = _key(step.mode, step.refreshed)
    row: dict[str, Any] = {"mode": key, "inputs": inputs_of(graphs[key], number, step)}
    if single is not None:
        row["sequence_inputs"] = inputs_of(single, number, step) | {"refresh": [step.mode == "compute"]}
    return row


def inputs_of(graph: Graph, number: int, step: Step) -> dict[str, Any]:
    """The values of inputs that are known beforehand: scalars of the predictor, and which tokens are computed."""
    found: dict[str, Any] = {}
    for given in graph.inputs:
        if given.role == "coefficients":
            found[given.name] = _scalars(step, given.shape)
        elif given.role == "control" and given.name == "step":
            found[given.name] = [number]
        elif given.role == "control":
            found[given.name] = list(range(step.counts[int(given.name.removeprefix("ranks_"))]))
    return found


def _scalars(step: Step, shape: Sequence[int | str]) -> Any:
    """The coefficients in the shape of the input: [K], or [sites or 1][bands][K]; zeros where the step has none."""
    if len(shape) == 1:
        rows = step.coefficients[0][0] if step.coefficients else ()
        return list(rows) if len(rows) == shape[0] else [0.0] * int(shape[0])
    table = step.coefficients * int(shape[0]) if len(step.coefficients) == 1 else step.coefficients
    fits = len(table) == shape[0]
    return [[list(row) for row in site] for site in table] if fits else _zeros(shape)


def _zeros(shape: Sequence[int | str]) -> Any:
    return [_zeros(shape[1:]) for _ in range(int(shape[0]))] if shape else 0.0


def _about(manifest: Manifest, form: Form) -> dict[str, Any]:
    return {
        "method": repr(manifest.method),
        "model": manifest.model.type,
        "weights": manifest.model.weights,
        "versions": dict(manifest.versions),
        "call": str(form.call),
    }
