"""Skips a marked test where the machine lacks what it needs, and says what that is. Captures one model for all."""

from __future__ import annotations

import gc
import os
import tempfile
from collections.abc import Callable
from importlib.util import find_spec

import pytest
import torch

from fouriercache import OptimizedModule, optimize
from fouriercache.optimize import CACHE_DIR
from tests.tiny import METHOD, TIMESTEPS, tiny_dit

pytest_plugins = ["pytest_fouriercache"]  # from these sources, installed or not


def has_module(*names: str) -> bool:
    return any(find_spec(name) is not None for name in names)


NEEDS: dict[str, tuple[Callable[[], bool], str]] = {
    "gpu": (torch.cuda.is_available, "needs a CUDA device"),
    "ort": (lambda: has_module("onnxruntime"), "needs the extra `onnx` or `gpu`"),
    "trt": (lambda: has_module("tensorrt", "tensorrt_rtx_bindings"), "needs the extra `gpu` or `rtx`"),
}


def pytest_configure(config: pytest.Config) -> None:
    """Keep captures for the time of this run: most tests ask what a method does, and few how a model is captured.

    And collect garbage less often: tracing makes objects by the million, and looking through them takes a tenth of the
    time.
    """
    gc.set_threshold(100_000, 50, 100)
    if hasattr(config, "workerinput") or os.environ.get(CACHE_DIR):
        return
    folder = tempfile.TemporaryDirectory(prefix="captures-")
    config.add_cleanup(folder.cleanup)
    os.environ[CACHE_DIR] = folder.name


def pytest_runtest_setup(item: pytest.Item) -> None:
    for marker, (is_met, need) in NEEDS.items():
        if item.get_closest_marker(marker) is not None and not is_met():
            pytest.skip(need)


@pytest.fixture
def captured_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """No capture of this test comes from disk: it is about capturing, which runs the model itself."""
    monkeypatch.delenv(CACHE_DIR, raising=False)


@pytest.fixture(scope="session")
def fast() -> OptimizedModule:
    """The tiny DiT, captured once for all tests. Use it through `fast.new_session()`, and leave its weights alone."""
    return optimize(tiny_dit(), METHOD, num_steps=len(TIMESTEPS))
