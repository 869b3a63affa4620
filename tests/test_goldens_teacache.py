"""TeaCache is what its authors' code does on a FLUX transformer: decisions, accumulated changes, every result."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers.models.transformers.transformer_flux import FluxTransformer2DModel
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor

import fouriercache as fc

PATH = Path(__file__).parent / "goldens" / "teacache_flux_T28_d04.safetensors"
TOLERANCE = 1e-4  # what is wrong by one decision is 3e-2 away, rounding some 1e-6
# The published code divides two float32 means; the polynomial is steep, and 28 of its values lie around 0.28.
ACCUMULATED = 1e-5


class Golden:
    """The published run: `cached.x` [T, 2, 64, 16] what each step was given, `cached.out` what it gave."""

    def __init__(self) -> None:
        with safe_open(PATH, "pt") as file:
            self.facts: dict[str, Any] = json.loads(file.metadata()["golden"])
        self.arrays = load_file(PATH)
        self.computed: list[bool] = self.facts["cached"]["computed"]
        self.accumulated: list[float] = self.facts["cached"]["acc"]

    def model(self) -> Any:
        model: Any = FluxTransformer2DModel(**self.facts["flux_config"])
        model.load_state_dict(
            {k.removeprefix("weights."): v for k, v in self.arrays.items() if k.startswith("weights.")}
        )
        return model.eval()

    def call(self, model: Any, x: Tensor, step: int) -> Tensor:
        given = self.arrays
        found: Tensor = model(
            hidden_states=x,
            encoder_hidden_states=given["encoder_hidden_states"],
            pooled_projections=given["pooled_projections"],
            timestep=given["sigmas"][step].expand(len(x)),
            img_ids=given["img_ids"],
            txt_ids=given["txt_ids"],
            guidance=torch.full((len(x),), self.facts["guidance"]),
        ).sample
        return found

    def run(self, model: Any) -> tuple[list[Tensor], Tensor]:
        x, outputs, sigmas = self.arrays["x0"], [], self.arrays["sigmas"]
        for step in range(self.facts["steps"]):
            outputs.append(self.call(model, x, step))
            x = x + (sigmas[step + 1] - sigmas[step]) * outputs[-1]
        return outputs, x


def distance(have: Tensor, want: Tensor) -> float:
    return float((have - want).abs().amax() / want.abs().amax())


@pytest.fixture(scope="module")
def golden() -> Golden:
    return Golden()


@pytest.fixture(scope="module")
def fast(golden) -> fc.OptimizedModule:
    method = fc.TeaCache(golden.facts["params"]["thresh"], "FLUX.1-dev")
    return fc.optimize(golden.model(), method, num_steps=golden.facts["steps"])


@pytest.fixture(autouse=True)
def without_gradients():
    with torch.no_grad():
        yield


def check_decisions(golden: Golden, request: Any) -> None:
    (decisions,) = request.decisions.values()
    assert [decision.is_computed for decision in decisions] == golden.computed
    assert [decision.accumulated for decision in decisions] == pytest.approx(golden.accumulated, abs=ACCUMULATED)
    assert request.computed_steps == {0: tuple(step for step, full in enumerate(golden.computed) if full)}


def test_named_coefficients_are_those_of_the_published_run(golden, fast):
    assert list(fast.method.schedule.rescale.coefficients) == golden.facts["params"]["coefficients"]


def test_steps_fed_the_published_input_are_decided_and_computed_as_published(golden, fast):
    session = fast.new_session()
    for step, (x, want) in enumerate(zip(golden.arrays["cached.x"], golden.arrays["cached.out"], strict=True)):
        assert distance(golden.call(session, x, step), want) < TOLERANCE, f"step {step}"
    check_decisions(golden, session)


@pytest.mark.parametrize("is_prepared", [False, True])
def test_a_free_run_is_decided_and_computed_as_published(golden, fast, is_prepared):
    session = fast.new_session()
    if is_prepared:
        session.prepare(golden.arrays["sigmas"][:-1])
    outputs, final = golden.run(session)
    for step, (have, want) in enumerate(zip(outputs, golden.arrays["cached.out"], strict=True)):
        assert distance(have, want) < TOLERANCE, f"step {step}"
    assert distance(final, golden.arrays["cached.final"]) < TOLERANCE
    check_decisions(golden, session)


def test_one_residual_is_kept_that_of_the_image_tokens_around_all_blocks(golden, fast):
    golden.call(fast.new_session(), golden.arrays["x0"], 0)
    (site,) = fast.report.sites
    config = golden.facts["flux_config"]
    width = config["attention_head_dim"] * config["num_attention_heads"]
    assert (site.kind, site.shape[1:]) == ("stack", (64, width))


def test_a_run_without_a_cache_is_far_from_the_published_one(golden):
    final = golden.run(golden.model())[1]
    assert distance(final, golden.arrays["baseline.final"]) < TOLERANCE
    assert distance(final, golden.arrays["cached.final"]) > 100 * TOLERANCE
