"""Presets are what their authors' code does: step by step and at the end of the same denoising loop."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers.models.transformers.dit_transformer_2d import DiTTransformer2DModel
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor

import fouriercache as fc
from tests.dit_mapping import dit_from_published, forward_with_cfg

GOLDENS = Path(__file__).parent / "goldens"
# An independent re-implementation came within 2e-6 of these files, and no method at all is 3e-2 to 1.4e-1 away: what is
# wrong by one step or one order stands far above this line, rounding far below.
TOLERANCE = 1e-4


@dataclass(frozen=True)
class Golden:
    facts: dict[str, Any]
    arrays: dict[str, Tensor]

    @property
    def timesteps(self) -> list[int]:
        return list(self.facts["cached"]["t"])

    @property
    def computed(self) -> tuple[int, ...]:
        cached = self.facts["cached"]
        kinds = cached["types"] if "types" in cached else map(set, cached["layer_types"])
        return tuple(step for step, kind in enumerate(kinds) if kind in ("full", {"full"}))

    def call(self, model: Any, x: Tensor, step: int) -> Tensor:
        scale = self.facts["cfg_scale"]
        return forward_with_cfg(model, x, self.timesteps[step], self.arrays["y"], scale)

    def run(self, model: Any) -> tuple[list[Tensor], Tensor]:
        """Let `model` denoise freely; return what it gave at each step, and the end."""
        x, outputs = self.arrays["z"], []
        for step in range(len(self.timesteps)):
            outputs.append(self.call(model, x, step))
            x = x - outputs[-1][:, :4] / len(self.timesteps)
        return outputs, x


@dataclass(frozen=True)
class Case:
    file: str
    method: fc.Method


CASES = {
    "FORA": Case("fora_euler_T20_N3", fc.FORA(interval=3)),
    "ToCa": Case("toca_euler_T20_N3_R007_ddim50", fc.ToCa(interval=3, ratio=0.07, published=True)),
    "TaylorSeer": Case("taylorseer_euler_T20_N4_O4", fc.TaylorSeer(interval=4, order=4)),
}


def read_golden(name: str) -> Golden:
    path = GOLDENS / f"{name}.safetensors"
    with safe_open(path, "pt") as file:
        facts = json.loads(file.metadata()["golden"])
    return Golden(facts, load_file(path))


def distance(have: Tensor, want: Tensor) -> float:
    return float((have - want).abs().amax() / want.abs().amax())


@pytest.fixture(scope="module")
def model() -> DiTTransformer2DModel:
    facts = read_golden("fora_euler_T20_N3").facts
    return dit_from_published(facts["config"], load_file(GOLDENS / "dit_small_weights.safetensors"))


@pytest.fixture(scope="module", params=CASES)
def case(request) -> Case:
    return CASES[request.param]


@pytest.fixture(scope="module")
def golden(case) -> Golden:
    return read_golden(case.file)


@pytest.fixture(scope="module")
def fast(case, golden, model) -> fc.OptimizedModule:
    return fc.optimize(model, case.method, num_steps=len(golden.timesteps))


@pytest.fixture(autouse=True)
def without_gradients():
    with torch.no_grad():
        yield


def test_mapped_model_gives_the_published_result_without_a_cache(model):
    golden = read_golden("fora_euler_T20_N3")
    assert distance(golden.run(model)[1], golden.arrays["baseline.final"]) < TOLERANCE


def test_computes_the_steps_that_the_published_code_computes(fast, golden):
    assert fast.schedule == golden.computed


def test_every_step_is_right_when_fed_the_published_input(fast, golden):
    fast.reset()
    for step, (x, want) in enumerate(zip(golden.arrays["cached.x"], golden.arrays["cached.model_out"], strict=True)):
        assert distance(golden.call(fast, x, step), want) < TOLERANCE, f"step {step}"


def test_every_step_and_the_end_are_right_when_running_freely(fast, golden):
    fast.reset()
    outputs, final = golden.run(fast)
    for step, (have, want) in enumerate(zip(outputs, golden.arrays["cached.model_out"], strict=True)):
        assert distance(have, want) < TOLERANCE, f"step {step}"
    assert distance(final, golden.arrays["cached.final"]) < TOLERANCE


def test_the_end_is_right_with_timesteps_prepared(fast, golden):
    fast.reset()
    fast.prepare(golden.timesteps)
    try:
        assert distance(golden.run(fast)[1], golden.arrays["cached.final"]) < TOLERANCE
    finally:
        fast.reset()


def test_a_run_without_a_cache_is_far_from_the_golden(golden, model):
    """No cache at all is far from the golden: a method that did nothing would be noticed."""
    assert distance(golden.run(model)[1], golden.arrays["cached.final"]) > 100 * TOLERANCE
