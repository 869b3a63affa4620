"""FreqCa, a whole trajectory: the published split, differences and polynomials, against the package's graph."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import fouriercache as fc
from tests.tiny import ROUNDING, TIMESTEPS, denoise, distance, tiny_dit

SIGMA = 0.71


def dct(size: int) -> Tensor:
    """The orthonormal DCT-II, [size, size] float64, written from its definition."""
    k, n = torch.arange(size, dtype=torch.float64)[:, None], torch.arange(size, dtype=torch.float64)
    rows: Tensor = torch.cos(torch.pi * (n + 0.5) * k / size) * (2 / size) ** 0.5
    rows[0] /= 2**0.5
    return rows


def low_band(tokens: Tensor, edge: float) -> Tensor:
    """FreqCa, cache_utils.py, decomposition_DCT: [batch, side * side, channels] -> the part of radius <= edge."""
    side = int(tokens.shape[1] ** 0.5)
    basis = dct(side)
    grid = tokens.double().reshape(len(tokens), side, side, -1)
    spectrum = torch.einsum("ki,lj,bijc->bklc", basis, basis, grid)
    radius = (torch.arange(side)[:, None] ** 2 + torch.arange(side) ** 2).double().sqrt()
    kept = spectrum * (radius <= edge * radius.max())[None, :, :, None]
    return torch.einsum("ki,lj,bklc->bijc", basis, basis, kept).reshape(tokens.shape).to(tokens.dtype)


class ByHand:
    """The DiT with the residual of its blocks cached: the published factors of each band, updated at computed steps."""

    def __init__(self, model: Any, computed: tuple[int, ...], edge: float, first_enhance: int) -> None:
        self.model, self.computed, self.edge, self.first_enhance = model, computed, edge, first_enhance
        self.step, self.last = 0, 0
        self.factors: dict[str, list[Tensor]] = {"low": [], "high": []}

    def __call__(self, hidden_states: Tensor, timestep: Tensor, class_labels: Tensor) -> Any:
        embedded = self.model.pos_embed(hidden_states)
        if self.step in self.computed:
            out = embedded
            for block in self.model.transformer_blocks:
                out = block(out, timestep=timestep, class_labels=class_labels)
            self._update(out - embedded)
        else:
            out = embedded + self._predict()
        self.step += 1
        return _Output(self._finish(out, timestep, class_labels, hidden_states.shape))

    def _update(self, residual: Tensor) -> None:
        low = low_band(residual, self.edge)
        for name, value in {"low": low, "high": residual - low}.items():
            new = [value]
            for old in self.factors[name][:2]:
                if self.step <= self.first_enhance - 2:
                    break
                new.append((new[-1] - old) / (self.last - self.step))
            self.factors[name] = new
        self.last = self.step

    def _predict(self) -> Tensor:
        k = SIGMA * (self.last - self.step)
        weights = [1.0, SIGMA * 2 * k, SIGMA**2 * (4 * k * k - 2) / 2]
        high = sum((w * f for w, f in zip(weights, self.factors["high"], strict=False)), torch.zeros(()))
        return self.factors["low"][0] + high

    def _finish(self, x: Tensor, timestep: Tensor, labels: Tensor, shape: torch.Size) -> Tensor:
        model = self.model
        condition = model.transformer_blocks[0].norm1.emb(timestep, labels, hidden_dtype=x.dtype)
        shift, scale = (part[:, None] for part in model.proj_out_1(F.silu(condition)).chunk(2, dim=1))
        x = model.proj_out_2(model.norm_out(x) * (1 + scale) + shift)
        side, patch = int(x.shape[1] ** 0.5), model.patch_size
        grid = x.reshape(-1, side, side, patch, patch, model.out_channels)
        return torch.einsum("nhwpqc->nchpwq", grid).reshape(shape)


class _Output:
    def __init__(self, sample: Tensor) -> None:
        self.sample = sample


@pytest.mark.parametrize(
    ("options", "edge"),
    [
        ({"interval": 3}, 0.1),
        ({"interval": 2, "edge": 0.5}, 0.5),
        ({"schedule": fc.Table((0, 1, 2, 4, 7)), "edge": 0.3}, 0.3),
    ],
)
def test_whole_trajectory_is_the_published_method(options: Mapping[str, Any], edge: float) -> None:
    model = tiny_dit()
    method = fc.FreqCa(**options)
    computed = method.schedule.steps(len(TIMESTEPS))
    assert computed is not None
    fast = fc.optimize(model, method, num_steps=len(TIMESTEPS))
    assert distance(denoise(fast), denoise(ByHand(model, computed, edge, first_enhance=3))) < 10 * ROUNDING


def test_split_matters_to_the_result() -> None:
    model = tiny_dit()
    split, whole = (denoise(fc.optimize(model, fc.FreqCa(3, edge=edge))) for edge in (0.1, 0.9))
    assert distance(split, whole) > 1e-3
