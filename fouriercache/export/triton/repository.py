"""Writes a Triton model repository: a model for each step mode, one for sequences, and the schedule as a table."""

from __future__ import annotations

import json
import os
import re
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fouriercache.bundle.folder import is_empty, why_no_folder
from fouriercache.errors import LoweringError, TargetError
from fouriercache.export.tensorrt import DEFAULT_PROFILES, Profile
from fouriercache.export.triton.config import Kind, Runner, State, model_config
from fouriercache.export.triton.explanation import build_script, readme
from fouriercache.export.triton.served_graph import ServedGraph

_SCHEMA = 1
_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]{0,127}")


@dataclass(frozen=True)
class Served:
    """What a repository is made of.

    Attributes:
        name: of the models, "dit": the whole step is served as `dit`, its modes as `dit_compute` and so on.
        modes: ONNX file of each step mode. step: ONNX file of the whole step; None serves no sequences.
        columns: output that is kept -> its slots, the newest in front.
        states: input -> what the value of the last step that it takes is called where a graph returns it.
        steps: what each step of a trajectory runs, in order: "mode", the "inputs" that are known beforehand, and
            "sequence_inputs", which the whole step takes instead.
        about: what else the table is to say: method, versions.
    """

    name: str
    modes: Mapping[str, Path]
    step: Path | None
    columns: Mapping[str, Sequence[str]]
    states: Mapping[str, Sequence[str]]
    steps: Sequence[Mapping[str, Any]]
    about: Mapping[str, Any]


def write_repository(
    served: Served,
    folder: Path,
    *,
    runner: Runner = "onnxruntime",
    kind: Kind = "gpu",
    instances: int = 1,
    profile: Profile = DEFAULT_PROFILES[0],
    accelerator: Mapping[str, str] | None = None,
) -> None:
    """Write a repository to `folder`, which must be empty or not there: whole, or not at all.

    Weights lie in it once: the models' files are hard links to one, where the file system has them.

    Args:
        runner: ONNX Runtime, or TensorRT: its plans are built by `build_plans.sh`, in the container that serves them.
        kind: where the models run. instances: of each, on each device.
        profile: `typical` is the batch of a sequence; the rest is for the plans.
        accelerator: options of ONNX Runtime's TensorRT provider; None does without it.

    Raises:
        TargetError: the folder is not empty, the name is none for a model, or an option makes no sense.
        LoweringError: a tensor is of a kind that Triton does not serve; the repository could not be written.
        MissingExtraError: onnx is not installed.
    """
    if not _is_name(served.name):
        raise TargetError(
            f"a model in a repository cannot be called {served.name!r}: its name is that of a folder there.\n"
            "  Use letters, digits, '_', '-' and '.', not in front, as in name='dit-xl.2'."
        )
    _check_options(folder, runner, kind, instances, accelerator)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.") as scratch:
            fresh = Path(scratch) / "repository"
            fresh.mkdir()
            writer = _Writer(served, fresh, runner, kind, instances, profile, accelerator)
            for mode, path in served.modes.items():
                writer.add(f"{served.name}_{mode}", path)
            if served.step is not None:
                writer.add(served.name, served.step, batch=profile.typical)
            writer.finish()
            fresh.replace(folder)
    except OSError as error:
        where = error.filename2 or error.filename or folder  # of a copy, where to
        raise LoweringError(
            f"the model repository could not be written: {error.strerror}.\n  where: {where}\n"
            "  Make room or name another folder; nothing half-written was left."
        ) from error


def _is_name(name: object) -> bool:
    return isinstance(name, str) and _NAME.fullmatch(name) is not None


def check_folder(folder: Path) -> None:
    """Raise TargetError when no repository can be written to `folder`: it is no folder, not empty, or out of reach."""
    if folder.exists() and (not folder.is_dir() or not is_empty(folder)):
        raise TargetError(f"the model repository needs a folder of its own, and {folder} holds something already.")
    reason = why_no_folder(folder)
    if reason is not None:
        raise TargetError(
            f"the model repository cannot be written: {reason}.\n  where: {folder}\n  Name another folder."
        )


def _check_options(
    folder: Path, runner: Runner, kind: Kind, instances: int, accelerator: Mapping[str, str] | None
) -> None:
    check_folder(folder)
    if runner not in ("onnxruntime", "tensorrt"):
        raise TargetError(f"Triton runs these models with 'onnxruntime' or 'tensorrt', not {runner!r}.")
    if kind not in ("gpu", "cpu") or (kind == "cpu" and (runner == "tensorrt" or accelerator is not None)):
        raise TargetError(f"models run on 'gpu', or with ONNX Runtime alone on 'cpu', not on {kind!r} with {runner}.")
    if type(instances) is not int or instances < 1:
        raise TargetError(f"a model needs a whole number of instances, at least 1, not {instances!r}.")
    if accelerator is not None and runner != "onnxruntime":
        raise TargetError("options of ONNX Runtime's TensorRT provider go with the runner 'onnxruntime'.")


class _Writer:
    def __init__(
        self,
        served: Served,
        folder: Path,
        runner: Runner,
        kind: Kind,
        instances: int,
        profile: Profile,
        accelerator: Mapping[str, str] | None,
    ) -> None:
        self._served, self._folder, self._runner, self._kind = served, folder, runner, kind
        self._instances, self._profile, self._accelerator = instances, profile, accelerator
        self._weights: dict[Path, Path] = {}
        self._shapes: dict[str, dict[str, tuple[int, ...]]] = {}

    def add(self, name: str, path: Path, batch: int | None = None) -> None:
        """Add a model. With a batch, Triton keeps its state."""
        graph = ServedGraph(path)
        states: list[State] = []
        if batch is not None:
            graph.fix_batch(batch)
            states = graph.add_states(self._served.columns, self._served.states)
        kept = {state.given.name for state in states} | {state.returned for state in states}
        inputs = [tensor for tensor in graph.inputs() if tensor.name not in kept]
        outputs = [tensor for tensor in graph.outputs() if tensor.name not in kept]
        place = self._folder / name / ("1" if self._runner == "onnxruntime" else "onnx")
        place.mkdir(parents=True)
        graph.save(place / "model.onnx")
        for file in sorted(graph.weight_files()):
            self._link(path.parent / file, place / file)
        config = model_config(
            name, self._runner, inputs, outputs,
            states=states, kind=self._kind, instances=self._instances, accelerator=self._accelerator,
        )  # fmt: skip
        (self._folder / name / "config.pbtxt").write_text(config)
        self._shapes[name] = {tensor.name: tensor.shape for tensor in graph.inputs()}

    def finish(self) -> None:
        """Add what is for readers and callers."""
        served = self._served
        table = {
            "schema": _SCHEMA,
            **served.about,
            "models": {mode: f"{served.name}_{mode}" for mode in served.modes},
            "sequence_model": served.name if served.step is not None else None,
            "sequence_batch": self._profile.typical if served.step is not None else None,
            "kept": {column: list(slots) for column, slots in served.columns.items()},
            "states": {name: list(outputs) for name, outputs in served.states.items()},
            "steps": list(served.steps),
        }
        (self._folder / "schedule.json").write_text(json.dumps(table, indent=2, allow_nan=False) + "\n")
        (self._folder / "README.md").write_text(readme(served.name, table, self._runner))
        if self._runner == "tensorrt":
            script = self._folder / "build_plans.sh"
            script.write_text(build_script(self._shapes, self._profile))
            script.chmod(0o755)

    def _link(self, source: Path, place: Path) -> None:
        """Put a weight file beside a model: a copy the first time, then a link to it where there can be one."""
        if source not in self._weights:
            shutil.copyfile(source, place)
            self._weights[source] = place
            return
        try:
            os.link(self._weights[source], place)
        except OSError:
            shutil.copyfile(source, place)  # the file system has no links; the bytes are the same
