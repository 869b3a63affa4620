"""One bundle for every test that reads one."""

from __future__ import annotations

import copy
import os
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import pytest

import fouriercache as fc
from fouriercache.bundle.folder import read_folder
from fouriercache.bundle.manifest import Manifest
from tests.tiny import labels, noise, step_inputs, tiny_dit


@pytest.fixture(scope="session", autouse=True)
def translations_read_once() -> Iterator[None]:
    """torch reads what translates its calls from onnxscript's sources anew for every graph: a second each."""
    from torch.onnx._internal.exporter._registration import ONNXRegistry

    read = cache(ONNXRegistry.from_torchlib)

    def copied(*args: Any, **options: Any) -> ONNXRegistry:
        registry = copy.copy(read(*args, **options))
        registry.functions = {name: list(found) for name, found in registry.functions.items()}
        return registry

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ONNXRegistry, "from_torchlib", staticmethod(copied))
        yield


@pytest.fixture(scope="session")
def stacked() -> fc.OptimizedModule:
    """The tiny DiT with one residual for the whole stack: 2 slots, 9 steps, of which 3 and the first are computed."""
    call = step_inputs(noise(), 500, labels())  # captured at batch 2, a graph serves any
    return fc.optimize(tiny_dit(), fc.TaylorSeer(3, 1, site="stack"), num_steps=9, example_inputs=call)


@pytest.fixture(scope="session")
def bundle(stacked: fc.OptimizedModule, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder it is exported to, for all processes that share a run. Read it; write elsewhere."""
    run = tmp_path_factory.getbasetemp()
    shared = (run.parent if "PYTEST_XDIST_WORKER" in os.environ else run) / "taylor"
    if not shared.exists():
        made: Path = tmp_path_factory.mktemp("bundles") / "taylor"
        fc.export(stacked, made)
        with suppress(OSError):  # another process was faster
            made.rename(shared)
    assert (shared / "manifest.json").exists()
    return shared


@pytest.fixture(scope="session")
def manifest(bundle: Path) -> Manifest:
    """What the bundle says of itself."""
    return read_folder(bundle)
