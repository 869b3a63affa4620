"""The plans of a bundle, found for the GPU and the library that are there, and run: by ONNX Runtime in their place."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import onnxruntime
import pytest
import torch

import fouriercache as fc
from fouriercache.bundle.manifest import File, Manifest
from fouriercache.errors import BundleError, EngineError, MethodError, MissingExtraError
from fouriercache.extras import install_line
from fouriercache.runtime.tensorrt import Plans, find_plans
from fouriercache.tensorrt_library import Library
from tests.runtime.fake_tensorrt import FakeDevice
from tests.runtime.ort_tensorrt import ort_library
from tests.tiny import denoise, distance

pytestmark = pytest.mark.ort
TIMESTEPS = tuple(range(900, 0, -100))
load_module = import_module("fouriercache.load")
"""The module; `fouriercache.load` itself is the function."""


def entry(file: str, **about: object) -> dict[str, Any]:
    said = {"library": "TensorRT-RTX", "version": "1.7.1.116", "capability": "sm89", **about}
    return {"file": file, "plan": said, "facts": None}


@pytest.fixture
def folder(bundle, manifest, tmp_path):
    """A copy of the bundle in which the plan of each graph that runs is the name of its ONNX file."""
    for path in bundle.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    for file in plan_files(manifest):
        (tmp_path / f"sm89.{Path(file).stem}.plan").write_text(file)
    return tmp_path


def plan_files(manifest: Manifest) -> list[str]:
    parts = [mode.parts for mode in manifest.forms[0].modes]
    return [graph.file for part in parts for graph in (part.context, part.timed, part.moving) if graph]


def planned(manifest: Manifest, **plans: dict[str, Any]) -> Manifest:
    """The manifest, vouching for plans of every graph that runs; `plans` in place of its own."""
    names = {file: f"sm89.{Path(file).stem}.plan" for file in plan_files(manifest)}
    files = {name: File(len(file), hashlib.sha256(file.encode()).hexdigest()) for file, name in names.items()}
    given = {f"tensorrt:{target}": entries for target, entries in plans.items()}
    own = {"tensorrt:sm89": {file: entry(name) for file, name in names.items()}}
    return replace(manifest, plans=given or own, files={**manifest.files, **files})


@pytest.fixture
def device() -> FakeDevice:
    return FakeDevice([])


def found(folder: Path, manifest: Manifest, device: FakeDevice, version: str = "1.7.1.116") -> Plans:
    library = ort_library(device, folder)
    return find_plans(folder, manifest, device, lambda flavour: Library(flavour, version, library))


def test_a_graph_as_a_plan_has_the_names_of_its_program_and_computes_what_it_computes(folder, manifest, device):
    graph = manifest.forms[0].modes[1].parts.moving
    run = found(folder, planned(manifest), device).start(graph)
    assert [given.name for given in run.inputs] == [given.name for given in graph.inputs]
    assert run.outputs == tuple(output.name for output in graph.outputs)
    assert run.version() == run.version()
    values = {g.name: torch.randn([2 if isinstance(size, str) else size for size in g.shape]) for g in graph.inputs}
    direct = onnxruntime.InferenceSession(folder / graph.file, providers=["CPUExecutionProvider"])
    want = direct.run(None, {name: value.numpy() for name, value in values.items()})
    assert all(torch.equal(h, torch.from_numpy(w)) for h, w in zip(run(list(values.values())), want, strict=True))


@pytest.fixture
def fast(folder, manifest, device, monkeypatch):
    """The bundle, loaded to run its plans: ONNX Runtime in the place of TensorRT."""
    (folder / "manifest.json").write_text(planned(manifest).text())
    library = Library("TensorRT-RTX", "1.7.1.116", ort_library(device, folder))
    monkeypatch.setattr(load_module, "find_device", lambda: device)
    monkeypatch.setattr(load_module, "find_plans", partial(find_plans, find=lambda flavour: library))
    return fc.load(folder, backend="tensorrt")


@pytest.mark.parametrize("is_prepared", [False, True])
def test_a_trajectory_on_plans_is_that_of_the_module_they_were_built_from(fast, stacked, is_prepared):
    stacked.reset()
    want = denoise(stacked, timesteps=TIMESTEPS)
    if is_prepared:
        fast.prepare([float(timestep) for timestep in TIMESTEPS])
    assert distance(denoise(fast, timesteps=TIMESTEPS), want) < 1e-5  # float32 sums in another order, nine steps


def test_what_a_computed_step_keeps_is_read_where_it_was_written(fast, device):
    denoise(fast, timesteps=TIMESTEPS)
    bound = [call for call in device.calls if call[0] == "address"]
    written = {address for _, name, address in bound if name == "stack.residual"}
    read = {address for _, name, address in bound if name.startswith("slot_0_")}
    assert read
    assert read <= written


@pytest.mark.parametrize(
    "options", [{"provider": "cuda"}, {"threads": 2}, {"single_graph": True}, {"profile": "profiles"}]
)
def test_options_of_the_other_backend_are_refused(folder, options):
    with pytest.raises(MethodError, match="are for the backend 'onnxruntime'"):
        fc.load(folder, backend="tensorrt", **options)


@pytest.mark.skipif(torch.cuda.is_available(), reason="says what happens without a CUDA device")
def test_without_a_gpu_plans_are_not_loaded_and_it_is_said_what_runs(folder):
    with pytest.raises(EngineError, match=r"there is none(.|\n)*backend='onnxruntime'"):
        fc.load(folder, backend="tensorrt")


def test_every_graph_that_runs_starts(folder, manifest, device):
    plans = found(folder, planned(manifest), device)
    for form in manifest.forms:
        for mode in form.modes:
            for graph in (mode.parts.context, mode.parts.timed, mode.parts.moving):
                assert graph is None or plans.start(graph).returned


def test_a_bundle_without_plans_says_how_to_get_some(folder, manifest, device):
    with pytest.raises(EngineError, match=r"which is sm89: it has none at all(.|\n)*targets=\['tensorrt:sm89'\]"):
        found(folder, manifest, device)


def test_a_bundle_with_plans_for_other_gpus_says_which(folder, manifest, device):
    device.kind = "sm90"
    with pytest.raises(EngineError, match=r"which is sm90: it has tensorrt:sm89 \(sm89\)"):
        found(folder, planned(manifest), device)


def test_plans_of_another_version_are_refused_with_both(folder, manifest, device):
    with pytest.raises(EngineError, match=r"built by TensorRT-RTX 1\.7\.1\.116, and TensorRT-RTX 1\.8\.0 is installed"):
        found(folder, planned(manifest), device, version="1.8.0")


def test_of_several_plans_for_a_gpu_those_of_the_installed_version_are_taken(folder, manifest, device):
    usual = planned(manifest).plans["tensorrt:sm89"]
    older = {file: entry(e["file"], version="1.7.0.1") for file, e in usual.items()}
    both = planned(manifest, current=older, sm89=usual)
    assert found(folder, both, device).target == "tensorrt:sm89"
    assert found(folder, both, device, version="1.7.0.1").target == "tensorrt:current"


def test_a_library_that_is_missing_is_named(folder, manifest, device):
    def find_none(flavour: Any) -> Library:
        raise MissingExtraError(f"{flavour} is not installed: {install_line('rtx')}")

    with pytest.raises(MissingExtraError, match="TensorRT-RTX"):
        find_plans(folder, planned(manifest), device, find_none)


def test_plans_of_a_library_that_is_missing_do_not_hide_those_of_one_that_is_installed(folder, manifest, device):
    usual = planned(manifest).plans["tensorrt:sm89"]
    other = {file: entry(e["file"], library="TensorRT", version="10.16") for file, e in usual.items()}
    both = planned(manifest, current=other, sm89=usual)

    def find(flavour: Any, version: str = "1.7.1.116") -> Library:
        if flavour == "TensorRT":
            raise MissingExtraError("TensorRT is not installed")
        return Library(flavour, version, ort_library(device, folder))

    assert find_plans(folder, both, device, find).target == "tensorrt:sm89"
    with pytest.raises(
        EngineError, match=r"tensorrt:sm89 were built by TensorRT-RTX 1\.7\.1\.116, and TensorRT-RTX 1\.8"
    ):
        find_plans(folder, both, device, partial(find, version="1.8.0"))


@pytest.mark.parametrize(
    "entries",
    [
        {},
        [],
        {"compute.moving.onnx": 3},
        {"compute.moving.onnx": {"file": "sm89.compute.moving.plan"}},
        {"compute.moving.onnx": {"file": 3, "plan": {}}},
        {"compute.moving.onnx": entry("not there.plan")},
        {"compute.moving.onnx": entry("../../etc/passwd")},
        {"compute.moving.onnx": entry("sm89.compute.moving.plan", library="OpenVINO")},
        {"compute.moving.onnx": entry("sm89.compute.moving.plan", capability=["sm89"])},
    ],
)
def test_plans_that_make_no_sense_are_refused(folder, manifest, device, entries):
    with pytest.raises(BundleError, match="makes no sense"):
        found(folder, planned(manifest, sm89=entries), device)


def test_a_graph_without_a_plan_is_refused_by_name(folder, manifest, device):
    usual = planned(manifest).plans["tensorrt:sm89"]
    fewer = {file: e for file, e in usual.items() if file != "reuse.moving.onnx"}
    plans = found(folder, planned(manifest, sm89=fewer), device)
    with pytest.raises(BundleError, match=r"no plan of reuse\.moving\.onnx"):
        plans.start(manifest.forms[0].modes[1].parts.moving)


def test_a_plan_that_was_changed_is_not_run(folder, manifest, device):
    plans = found(folder, planned(manifest), device)
    (folder / "sm89.reuse.moving.plan").write_text("compute.moving.onnx")
    with pytest.raises(EngineError, match="manifest vouches for"):
        plans.start(manifest.forms[0].modes[1].parts.moving)
