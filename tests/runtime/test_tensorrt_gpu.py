"""Plans on a GPU, against torch: what the fake device can only take on trust."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from fouriercache.export.tensorrt import Profile, build_plan, target_from_name
from fouriercache.program import Input
from fouriercache.runtime.tensorrt import PlanExecutable, PlanFile, find_device, load_engine
from fouriercache.tensorrt_library import find_library
from tests.export import models

pytestmark = [pytest.mark.gpu, pytest.mark.trt]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> PlanExecutable:
    """The two matrix products, built for this GPU, batches 1 to 8 in two profiles."""
    folder: Path = tmp_path_factory.mktemp("gpu")
    target = target_from_name("tensorrt:current")
    path = folder / "mlp.plan"
    plan = build_plan(models.mlp(folder / "mlp.onnx"), path, target, profiles=[Profile(1, 1, 1), Profile(2, 4, 8)])
    device = find_device()
    file = PlanFile(path, plan.sha256, plan.library, plan.version, plan.capability)
    return PlanExecutable(load_engine(file, find_library(), device), [Input("x", "sample")], ["y"], device)


def by_torch(x: Tensor) -> Tensor:
    w0, w1 = (
        torch.from_numpy(models.weight(*shape, seed=seed)).to(x.device)
        for seed, shape in enumerate(((models.WIDTH, 2 * models.WIDTH), (2 * models.WIDTH, models.WIDTH)))
    )
    return functional.gelu(x @ w0) @ w1


@pytest.mark.parametrize("batch", [1, 2, 8])
def test_a_plan_computes_what_torch_computes(run, batch):
    x = torch.randn(batch, models.WIDTH, device="cuda")
    torch.testing.assert_close(run([x])[0], by_torch(x), rtol=2**-8, atol=2**-6)  # TF32 in both


def test_a_recording_reads_what_lies_at_its_addresses_when_it_runs(run):
    x = torch.empty(4, models.WIDTH, device="cuda")
    for step in range(8):
        x.copy_(torch.randn(4, models.WIDTH))
        (y,) = run([x])
        torch.testing.assert_close(y, by_torch(x), rtol=2**-8, atol=2**-6, msg=f"step {step}")  # TF32 in both
        del y  # so that the next step gets the same memory


def test_another_stream_gives_the_same(run):
    x = torch.randn(4, models.WIDTH, device="cuda")
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        (y,) = run([x])
    torch.cuda.current_stream().wait_stream(stream)
    torch.testing.assert_close(y, by_torch(x), rtol=2**-8, atol=2**-6)  # TF32 in both
