"""`load`: a bundle as a drop-in module, once every file of it was found to be what its manifest says."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from os import PathLike
from pathlib import Path

import torch

from fouriercache.bundle import (
    Form,
    Graph,
    GraphParts,
    GraphProbe,
    Manifest,
    dtype_of,
    folder_of,
    read_folder,
    read_graph,
    shape_of,
)
from fouriercache.checks import suggest
from fouriercache.errors import BundleError, MethodError
from fouriercache.paths import path_of
from fouriercache.program import Input, Slot
from fouriercache.runtime.bundled import BundledModule
from fouriercache.runtime.onnxruntime import Engine, GraphExecutable
from fouriercache.runtime.outputs import rebuild
from fouriercache.runtime.parts import Nothing, Parts, ProbeParts, StepForm
from fouriercache.runtime.single_graph import SingleGraphStep
from fouriercache.runtime.stepper import Stepper
from fouriercache.runtime.tensorrt import PlanGraph, find_device, find_plans
from fouriercache.schedules import Place
from fouriercache.steps import ModeKey

_BACKENDS = ("onnxruntime", "tensorrt")
_TORCH = ("eager", "inductor")

_Ready = GraphExecutable | PlanGraph

_Start = Callable[[Graph], _Ready]
"""Checks a graph's file, or its plan, and makes it ready to run."""


def load(
    path: str | PathLike[str],
    backend: str = "onnxruntime",
    *,
    provider: str = "cpu",
    threads: int | None = None,
    single_graph: bool = False,
    profile: str | PathLike[str] | None = None,
) -> BundledModule:
    """Return a bundle as a module with the exported model's call signature, which runs without the model's code.

    Trajectories, requests and schedules are those of the optimised module it was exported from. Nothing of the bundle
    is trusted: see docs/export.md.

    Args:
        path: the bundle's folder.
        backend: "onnxruntime"; or "tensorrt", which runs the plans that were built for this machine's GPU. All that
            follows is for ONNX Runtime alone.
        provider: where ONNX Runtime computes, "cpu" or "cuda"; never another one in its place.
        threads: of one operator; as many as torch uses if None.
        single_graph: run the one graph with an If in place of a graph for each step mode.
        profile: a folder for ONNX Runtime's profiles of the graphs.

    Raises:
        BundleError: the folder is no bundle, a file is not what the manifest says, or it has no single graph.
        PathError: a path is none that a file can have.
        MethodError: there is no such backend or provider, or an option is for the other backend.
        EngineError: the provider is not there, or cannot run the graphs; for TensorRT, there is no CUDA device, or the
            bundle has no plans for it and the library that is installed.
        MissingExtraError: onnx or onnxruntime is not installed, or the TensorRT that built the plans.
    """
    if backend in _TORCH:
        raise MethodError(
            f"a bundle has no model that the backend {backend!r} could run: it holds graphs for engines.\n"
            f"  Use one of: {', '.join(_BACKENDS)}; or optimize() the model itself."
        )
    if backend not in _BACKENDS:
        raise MethodError(
            f"there is no backend {backend!r}.\n  Use one of: {', '.join(_BACKENDS)}.{suggest(backend, _BACKENDS)}"
        )
    folder = folder_of(path)
    if profile is not None and not isinstance(profile, str | PathLike):
        raise MethodError(
            f"profile= is a folder to be written to, and {profile!r} is no path.\n  Pass a folder's path."
        )
    if type(single_graph) is not bool:
        raise MethodError(f"single_graph= is True or False, and not {single_graph!r}.\n  Pass True or False.")
    place = None if profile is None else path_of(profile)
    again = partial(
        load, folder.absolute(), backend, provider=provider, threads=threads, single_graph=single_graph,
        profile=None if place is None else place.absolute(),
    )  # fmt: skip
    if backend == "tensorrt":
        if provider != "cpu" or threads is not None or profile is not None or single_graph:
            raise MethodError(
                "provider, threads, profile and single_graph are for the backend 'onnxruntime': TensorRT runs the "
                "modes' plans on the current GPU.\n  Leave them out, or load with backend='onnxruntime'."
            )
        return _load_plans(folder, again)
    engine = Engine(provider, threads, place)
    manifest = read_folder(folder)
    engine.check(manifest.model.dtype)
    engine.make_profile_folder()

    started: list[GraphExecutable] = []

    def start(graph: Graph) -> GraphExecutable:
        started.append(engine.start(graph, read_graph(folder, manifest, graph), folder.resolve()))
        return started[-1]

    def end_profiles() -> tuple[Path, ...]:
        return tuple(Path(graph.finish_profile()) for graph in started) if profile is not None else ()

    if single_graph:
        forms = [_step_form(form, start, _single(form, start)) for form in manifest.forms]
    else:
        forms = [_step_form(form, start, _modes(form, start)) for form in manifest.forms]
    return _module(folder, manifest, forms, engine.device, end_profiles, again)


def _load_plans(folder: Path, again: Callable[[], BundledModule]) -> BundledModule:
    device = find_device()
    manifest = read_folder(folder)
    plans = find_plans(folder.resolve(), manifest, device)
    forms = [_step_form(form, plans.start, _modes(form, plans.start)) for form in manifest.forms]
    return _module(folder, manifest, forms, device.place(), lambda: (), again)


def _module(
    folder: Path,
    manifest: Manifest,
    forms: list[StepForm],
    device: torch.device,
    end_profiles: Callable[[], tuple[Path, ...]],
    again: Callable[[], BundledModule],
) -> BundledModule:
    steppers = [Stepper(form, manifest.method) for form in forms]
    return BundledModule(folder.absolute(), manifest, steppers, device, _texts(folder, manifest), end_profiles, again)


def _step_form(form: Form, start: _Start, ready: Mapping[ModeKey, Parts]) -> StepForm:
    def build(key: ModeKey) -> Parts:
        if key in ready:
            return ready[key]
        raise BundleError(
            f"the bundle has no graph for the mode {key[0]} in which the sites {list(key[1])} are computed.\n"
            "  It was exported for another number of steps: export with the num_steps that it is run with."
        )

    return StepForm(
        inputs=tuple(Input(tensor.name, tensor.role) for tensor in form.call.tensors),
        slots={name: Slot(slot.site, slot.age, slot.column) for name, slot in form.slots.items()},
        columns=tuple(site.columns for site in form.sites),
        places=tuple(Place(site.layer, site.kind, site.tokens) for site in form.sites),
        keys=tuple(ready),
        build=build,
        probe=None if form.probe is None else _probe(form.probe, start),
        sizes=form.call.sizes,
        rebuild=lambda results: rebuild(form.output, results),
        has_gradients=False,
    )


def _parts(found: GraphParts, start: _Start) -> Parts:
    moving = start(found.moving)
    return Parts(
        Nothing() if found.context is None else start(found.context),
        Nothing() if found.timed is None else start(found.timed),
        moving,
        None if found.rows is None else frozenset(found.rows),
        moving.returned,
        _table(found.moving),
    )


def _modes(form: Form, start: _Start) -> dict[ModeKey, Parts]:
    """A graph for each mode."""
    return {(mode.mode, mode.refreshed): _parts(mode.parts, start) for mode in form.modes}


def _single(form: Form, start: Callable[[Graph], GraphExecutable]) -> dict[ModeKey, Parts]:
    """One graph for the two modes it holds."""
    if form.single is None:
        raise BundleError(
            f"the bundle has no single graph: {form.not_single}\n"
            "  Load it with single_graph=False: a graph for each mode."
        )
    graph = form.single
    whole = start(graph)
    computed, cached = (SingleGraphStep(whole, refresh=refresh) for refresh in (True, False))
    return {
        ("compute", ()): Parts(Nothing(), Nothing(), computed, None, computed.returned),
        ("reuse", ()): Parts(Nothing(), Nothing(), cached, None, cached.returned, _table(graph)),
    }


def _table(graph: Graph) -> tuple[int, ...]:
    """The shape of the input of the role "coefficients"; () if there is none."""
    shapes = [given.shape for given in graph.inputs if given.role == "coefficients"]
    return shape_of(shapes[0], {}) if shapes else ()


def _probe(found: GraphProbe, start: _Start) -> ProbeParts:
    filters = [given for given in found.parts.moving.inputs if given.role == "control"]
    return ProbeParts(
        _parts(found.parts, start),
        start(found.first),
        tuple((shape_of(given.shape, {})[0], dtype_of(given.dtype)) for given in filters),
    )


def _texts(folder: Path, manifest: Manifest) -> dict[str, str]:
    """The programs' texts by mode, of the first form."""
    form = manifest.forms[0]
    found: dict[str, str] = {mode.mode: mode.parts.text for mode in form.modes if not mode.refreshed}
    if form.probe is not None:
        found["probe"] = form.probe.parts.text
    try:
        return {mode: (folder / file).read_text(encoding="utf-8") for mode, file in found.items()}
    except (OSError, UnicodeDecodeError) as error:
        raise BundleError(f"the bundle's texts cannot be read: {error}.\n  where: {folder}") from error
