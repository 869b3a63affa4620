"""PixArtAlphaPipeline: guidance in one batch, a mask over the prompt, nested inputs, a learnt variance to cut off."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from tests.pipelines.rig import (
    Rig,
    StopRun,
    check_attributes,
    check_broken_off,
    check_cached,
    check_cast,
    check_exact,
    check_output_types,
    check_prepared,
    check_requests_in_a_row,
    check_step_count,
    record_inputs,
)
from tests.pipelines.runs import METHODS, STEPS, run_pixart
from tests.pipelines.tiny import embeddings, pixart_pipeline

pytestmark = [
    pytest.mark.slow,
    # diffusers' DPMSolverMultistepScheduler hands tensors to NumPy in a way that NumPy 2 warns of
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept:DeprecationWarning"),
]

NO_GUIDANCE: dict[str, Any] = {"guidance_scale": 1.0}

OTHER_PROMPT: dict[str, Any] = {
    "prompt_embeds": embeddings(4, 1, 5, 16),
    "prompt_attention_mask": torch.tensor([[1, 1, 0, 0, 0]]),
}

TWO_PROMPTS: dict[str, Any] = {
    "prompt_embeds": embeddings(5, 2, 5, 16),
    "prompt_attention_mask": torch.ones(2, 5, dtype=torch.int64),
    "negative_prompt_embeds": embeddings(6, 2, 5, 16),
    "negative_prompt_attention_mask": torch.ones(2, 5, dtype=torch.int64),
}


def stop_at(wanted: int) -> Any:
    """Make a `callback`, which is what this pipeline takes, that ends the run after a step."""

    def callback(step: int, timestep: Any, latents: Tensor) -> None:
        if step == wanted:
            raise StopRun

    return callback


@pytest.fixture(scope="module")
def rig() -> Rig:
    return Rig(pixart_pipeline(), run_pixart)


@pytest.mark.parametrize(
    "changes",
    [{}, {"output_type": "pt"}, NO_GUIDANCE, OTHER_PROMPT, TWO_PROMPTS],
    ids=["latents", "images", "no guidance", "other prompt", "batch of two"],
)
def test_interval_1_reproduces_the_pipeline_exactly(rig: Rig, changes: dict[str, Any]):
    check_exact(rig, **changes)


def test_interval_1_reproduces_a_pipeline_with_resolution_inputs_exactly():
    rig = Rig(pixart_pipeline(sample_size=128), run_pixart)
    check_exact(rig)
    assert {"resolution", "aspect_ratio"} <= record_inputs(rig)[0]["added_cond_kwargs"].keys()


@pytest.mark.parametrize("name", METHODS)
def test_interval_4_computes_the_scheduled_steps_alone(rig: Rig, name: str):
    check_cached(rig, name)


def test_requests_of_different_kinds_follow_each_other(rig: Rig):
    check_requests_in_a_row(rig, [{}, NO_GUIDANCE, OTHER_PROMPT, TWO_PROMPTS])


def test_both_halves_of_the_guidance_are_one_pass(rig: Rig):
    rig.put("TaylorSeer at branches", 4)
    assert [given["hidden_states"].shape[0] for given in record_inputs(rig)] == [2] * STEPS


def test_prepared_timesteps_change_no_more_than_rounding(rig: Rig):
    check_prepared(rig)


@pytest.mark.parametrize("step", [0, 3])
@pytest.mark.parametrize("changes", [{}, NO_GUIDANCE, TWO_PROMPTS], ids=["guided", "not guided", "batch of two"])
def test_a_run_broken_off_leaves_no_trace_in_the_next(rig: Rig, step: int, changes: dict[str, Any]):
    check_broken_off(rig, lambda: rig.run(callback=stop_at(step), **changes))


def test_another_number_of_steps_than_declared_is_refused(rig: Rig):
    check_step_count(rig)


def test_the_pipeline_finds_every_attribute_it_reads(rig: Rig):
    check_attributes(rig)


def test_output_types_are_those_of_the_original(rig: Rig):
    check_output_types(rig)


def test_the_pipeline_can_be_cast_after_a_run():
    check_cast(Rig(pixart_pipeline(), run_pixart), torch.bfloat16)
