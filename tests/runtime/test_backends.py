"""Backends: inductor against eager over a whole denoising loop, and unknown names."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import fouriercache as fc
from fouriercache.steps import AheadPrograms
from tests.tiny import tiny_dit

STEPS = 6
TIMESTEPS = torch.linspace(999, 0, STEPS).long().tolist()


def denoise(module: nn.Module, batch: int = 2, device: str = "cpu") -> list[Tensor]:
    """A loop whose every step depends on the one before."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(batch, *_sample_size(module), generator=generator).to(device)
    labels = torch.arange(batch, device=device)
    outs = []
    for t in TIMESTEPS:
        with torch.no_grad():
            out = module(x, timestep=torch.full((batch,), t, device=device), class_labels=labels).sample
        outs.append(out)
        x = x - out[:, : x.shape[1]] / STEPS
    return outs


def _sample_size(module: nn.Module) -> tuple[int, int, int]:
    config: Any = module.config
    return config.in_channels, config.sample_size, config.sample_size


@pytest.mark.slow
@pytest.mark.parametrize("site", ["branch", "stack"])
def test_inductor_computes_what_eager_computes(site: str) -> None:
    model = tiny_dit()
    method = fc.TaylorSeer(interval=4, order=1, site=site)
    want = denoise(fc.optimize(model, method, num_steps=STEPS))
    fast = fc.optimize(model, method, num_steps=STEPS, backend="inductor")
    have = denoise(fast)
    fast.session.prepare(TIMESTEPS)
    assert isinstance(fast.captured[0].ahead(True), AheadPrograms) == (
        site == "branch"
    )  # three cached steps sum as one
    for prepared in (have, denoise(fast)):
        for one, other in zip(want, prepared, strict=True):
            torch.testing.assert_close(other, one, rtol=1e-4, atol=1e-5)  # inductor reorders float32 sums


def test_refuses_a_backend_that_is_not_there() -> None:
    with pytest.raises(fc.MethodError, match=r"(?s)unknown backend .tensort.*eager, inductor"):
        fc.optimize(tiny_dit(), fc.FORA(3), num_steps=STEPS, backend="tensort")


@pytest.mark.gpu
@pytest.mark.parametrize("backend", ["eager", "inductor", "cudagraphs", "inductor+cudagraphs"])
@pytest.mark.parametrize("site", ["branch", "block", "stack"])
def test_a_gpu_gives_what_the_cpu_gives(site: str, backend: str) -> None:
    model = tiny_dit()
    method = fc.TaylorSeer(interval=2, order=1, site=site)
    want = denoise(fc.optimize(model, method, num_steps=STEPS))
    fast = fc.optimize(model, method, num_steps=STEPS, backend=backend).to("cuda")
    for _ in range(3):  # recordings are made in the first two, and replayed in the third
        for one, other in zip(want, denoise(fast, device="cuda"), strict=True):
            torch.testing.assert_close(other.cpu(), one, rtol=1e-3, atol=1e-4)  # TF32 is off; other kernels, other sums


def test_tells_which_steps_were_computed_and_not_which_were_planned() -> None:
    fast = fc.optimize(tiny_dit(), fc.FORA(schedule=fc.Table((0, 3))), num_steps=STEPS)
    denoise(fast)
    assert fast.session.computed_steps == {0: (0, 3)}
