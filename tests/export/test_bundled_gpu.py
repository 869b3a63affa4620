"""A bundle on ONNX Runtime's CUDA provider, against the same loop on the CPU. Needs a GPU."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

import fouriercache as fc
from tests.tiny import denoise, distance, labels, noise, step_inputs

pytestmark = [pytest.mark.gpu, pytest.mark.ort]
TIMESTEPS = tuple(range(900, 0, -100))


@pytest.mark.parametrize("single_graph", [False, True])
@pytest.mark.parametrize("is_prepared", [False, True])
def test_a_trajectory_on_the_gpu_is_that_of_the_cpu(stacked: Any, bundle: Path, single_graph: bool, is_prepared: bool):
    bundled = fc.load(bundle, provider="cuda", single_graph=single_graph)
    if is_prepared:
        bundled.prepare(TIMESTEPS)

    def on_gpu(**call: torch.Tensor) -> Any:
        found = bundled(**{name: value.cuda() for name, value in call.items()}).sample
        assert found.is_cuda
        return SimpleNamespace(sample=found.cpu())

    want = denoise(stacked.new_session(), timesteps=TIMESTEPS)
    assert distance(denoise(on_gpu, timesteps=TIMESTEPS), want) < 1e-2  # products in TF32, nine steps


def test_kept_features_stay_on_the_gpu(bundle: Path):
    session = fc.load(bundle, provider="cuda").new_session()
    call = {name: value.cuda() for name, value in step_inputs(noise(), 900, labels()).items()}
    session(**call)
    assert session.features[0]
    assert all(value.is_cuda for value in session.features[0].values())
