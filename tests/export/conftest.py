"""One bundle for every test that reads one."""

from __future__ import annotations

from pathlib import Path

import pytest

import fouriercache as fc
from fouriercache.bundle.folder import read_folder
from fouriercache.bundle.manifest import Manifest
from tests.tiny import labels, noise, step_inputs, tiny_dit


@pytest.fixture(scope="session")
def stacked() -> fc.OptimizedModule:
    """The tiny DiT with one residual for the whole stack: 2 slots, 9 steps, of which 3 and the first are computed."""
    call = step_inputs(noise(), 500, labels())  # captured at batch 2, a graph serves any
    return fc.optimize(tiny_dit(), fc.TaylorSeer(3, 1, site="stack"), num_steps=9, example_inputs=call)


@pytest.fixture(scope="session")
def bundle(stacked: fc.OptimizedModule, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder it is exported to. Read it; write elsewhere."""
    folder: Path = tmp_path_factory.mktemp("bundles") / "taylor"
    fc.export(stacked, folder)
    return folder


@pytest.fixture(scope="session")
def manifest(bundle: Path) -> Manifest:
    """What the bundle says of itself."""
    return read_folder(bundle)
