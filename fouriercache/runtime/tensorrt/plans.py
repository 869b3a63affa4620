"""The plans of a bundle: those for this GPU and the installed library, one for each of its graphs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from fouriercache.bundle.manifest import Graph, Manifest
from fouriercache.errors import BundleError, EngineError, MissingExtraError
from fouriercache.program import Input, Output
from fouriercache.runtime.tensorrt.device import Device
from fouriercache.runtime.tensorrt.engine import PlanFile, load_engine
from fouriercache.runtime.tensorrt.executable import PlanExecutable
from fouriercache.tensorrt_library import MODULES, Library, find_library

_KIND = "tensorrt:"


class PlanGraph:
    """A graph of a bundle as a plan; called like a program on any other backend, and like it in its names."""

    def __init__(self, graph: Graph, run: PlanExecutable) -> None:
        self.graph, self._run = graph, run
        self.inputs = run.inputs
        self.returned = tuple(Output(returned.name, returned.role) for returned in graph.outputs)
        self.outputs = tuple(output.name for output in self.returned)

    def __call__(self, values: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Run; see `PlanExecutable`."""
        return self._run(values)

    def version(self) -> tuple[int, ...]:
        """Always the same: a plan's weights do not change."""
        return self._run.version()


@dataclass(frozen=True)
class Plans:
    """A bundle's plans for one kind of GPU, and what runs them.

    Attributes:
        target: they were built for. entries: of the manifest, by the ONNX file each stands for.
    """

    folder: Path
    manifest: Manifest
    target: str
    entries: Mapping[str, Any]
    library: Library
    device: Device

    def start(self, graph: Graph) -> PlanGraph:
        """Return what runs a graph.

        Raises:
            BundleError: the manifest has no plan of it, or one that makes no sense.
            EngineError: the plan cannot be loaded here; see `load_engine`.
        """
        plan = _plan_file(self.folder, self.manifest, self.target, self.entries, graph.file)
        engine = load_engine(plan, self.library, self.device)
        inputs = [Input(given.name, given.role) for given in graph.inputs]
        return PlanGraph(
            graph, PlanExecutable(engine, inputs, [returned.graph_name for returned in graph.outputs], self.device)
        )


def find_plans(
    folder: Path,
    manifest: Manifest,
    device: Device,
    find: Callable[[Any], Library] = find_library,
) -> Plans:
    """Return the bundle's plans for this GPU; of several, those of the library that is installed.

    Args:
        find: finds the library of a flavour.

    Raises:
        EngineError: the bundle has none for this GPU, or none for the library that is installed; says what it has. Or
            that library is of a version that this package does not know.
        BundleError: what the manifest says of plans makes no sense.
        MissingExtraError: no library that built any of them is installed.
    """
    here = device.capability()
    built: list[tuple[str, Mapping[str, Any], PlanFile]] = []
    for target, entries in manifest.plans.items():
        if target.startswith(_KIND):
            if not isinstance(entries, Mapping) or not entries:
                raise _senseless(folder, target)
            built.append((target, entries, _plan_file(folder, manifest, target, entries, next(iter(entries)))))
    fitting = [entry for entry in built if entry[2].capability == here]
    if not fitting:
        have = ", ".join(f"{target} ({plan.capability})" for target, _, plan in built) or "none at all"
        raise EngineError(
            f"the bundle has no TensorRT plans for this GPU, which is {here}: it has {have}.\n  where: {folder}\n"
            f"  Export with targets=['tensorrt:{here}'], or ['tensorrt:current'] on this machine."
        )
    installed: list[tuple[str, PlanFile, Library]] = []
    unusable: list[MissingExtraError | EngineError] = []
    for target, entries, plan in fitting:
        try:
            library = find(plan.library)
        except (MissingExtraError, EngineError) as error:
            unusable.append(error)
            continue
        if library.version == plan.version:
            return Plans(folder, manifest, target, entries, library, device)
        installed.append((target, plan, library))
    if not installed:
        raise unusable[0]
    target, plan, library = installed[0]
    raise EngineError(
        f"the bundle's plans for {target} were built by {plan.library} {plan.version}, and {library} is installed: a "
        f"plan runs on the version that built it.\n  where: {folder}\n"
        f"  Install {plan.library} {plan.version}, or export again with {library}."
    )


def _plan_file(folder: Path, manifest: Manifest, target: str, entries: Mapping[str, Any], graph: str) -> PlanFile:
    """What the manifest says of the plan of a graph; its hash is that of the file table, which was checked."""
    entry = entries.get(graph)
    if entry is None:
        raise BundleError(f"the bundle has no plan of {graph} for {target}.\n  where: {folder}\n  Export again.")
    try:
        file, about = entry["file"], entry["plan"]
        said = [about[name] for name in ("library", "version", "capability")]
        known = manifest.files[file]
    except (KeyError, TypeError) as error:
        raise _senseless(folder, target) from error
    if not all(isinstance(word, str) for word in said) or said[0] not in MODULES:
        raise _senseless(folder, target)
    return PlanFile(folder / file, known.sha256, *said)


def _senseless(folder: Path, target: str) -> BundleError:
    return BundleError(f"what the bundle's manifest says of its plans for {target} makes no sense.\n  where: {folder}")
