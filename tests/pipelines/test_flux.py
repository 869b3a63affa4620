"""FluxPipeline: latents are packed to tokens, timesteps are divided by 1000, guidance is an input or a second call."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import fouriercache as fc
from tests.pipelines.rig import (
    Rig,
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
    stop_after,
)
from tests.pipelines.runs import METHODS, run_flux
from tests.pipelines.tiny import embeddings, flux_pipeline

pytestmark = pytest.mark.slow

TWO_CALLS: dict[str, Any] = {
    "true_cfg_scale": 3.0,
    "negative_prompt_embeds": embeddings(2, 1, 5, 32),
    "negative_pooled_prompt_embeds": embeddings(3, 1, 32),
}
"""Guidance with a call of its own for the negative prompt."""

OTHER_PROMPT: dict[str, Any] = {
    "prompt_embeds": embeddings(4, 1, 5, 32),
    "pooled_prompt_embeds": embeddings(5, 1, 32),
}

TWO_PROMPTS: dict[str, Any] = {
    "prompt_embeds": embeddings(6, 2, 5, 32),
    "pooled_prompt_embeds": embeddings(7, 2, 32),
}


@pytest.fixture(scope="module")
def rig() -> Rig:
    return Rig(flux_pipeline(), run_flux)


@pytest.mark.parametrize(
    "changes",
    [{}, {"output_type": "pt"}, {"guidance_scale": 1.0}, OTHER_PROMPT, TWO_PROMPTS, TWO_CALLS],
    ids=["latents", "images", "weak guidance", "other prompt", "batch of two", "two calls a step"],
)
def test_interval_1_reproduces_the_pipeline_exactly(rig: Rig, changes: dict[str, Any]):
    check_exact(rig, **changes)


@pytest.mark.parametrize("name", METHODS)
def test_interval_4_computes_the_scheduled_steps_alone(rig: Rig, name: str):
    check_cached(rig, name)


def test_two_calls_a_step_have_a_cache_each(rig: Rig):
    check_cached(rig, "TaylorSeer at branches", passes=2, **TWO_CALLS)
    both = rig.pipe.transformer.cache_bytes
    rig.run()
    assert both == 2 * rig.pipe.transformer.cache_bytes


def test_requests_of_different_kinds_follow_each_other(rig: Rig):
    check_requests_in_a_row(rig, [{}, TWO_CALLS, OTHER_PROMPT, TWO_PROMPTS, {"guidance_scale": 1.0}])


def test_the_transformer_is_called_with_timesteps_divided_by_1000(rig: Rig):
    rig.put("TaylorSeer at branches", 4)
    timesteps = [float(given["timestep"]) for given in record_inputs(rig)]
    assert timesteps == [float(t / 1000) for t in rig.pipe.scheduler.timesteps]
    assert timesteps[0] == 1.0


def test_prepared_timesteps_change_no_more_than_rounding(rig: Rig):
    check_prepared(rig, divisor=1000)


def test_timesteps_prepared_on_the_wrong_scale_are_refused(rig: Rig):
    fast = rig.put("TaylorSeer at branches", 4)
    fast.prepare(rig.pipe.scheduler.timesteps)
    with pytest.raises(fc.TrajectoryError, match=r"(?s)1\.0 where 1000\.0 was prepared.*scheduler\.timesteps / 1000"):
        rig.run()


@pytest.mark.parametrize("step", [0, 3])
@pytest.mark.parametrize("changes", [{}, TWO_CALLS, TWO_PROMPTS], ids=["one call", "two calls", "batch of two"])
def test_a_run_broken_off_leaves_no_trace_in_the_next(rig: Rig, step: int, changes: dict[str, Any]):
    check_broken_off(rig, lambda: rig.run(callback_on_step_end=stop_after(step), **changes))


@pytest.mark.filterwarnings("ignore::fouriercache.errors.ShortTrajectoryWarning")
def test_two_interrupted_runs_cost_one_error_and_no_reset(rig: Rig):
    rig.put("TaylorSeer at branches", 4)
    whole = rig.run()

    def interrupt(pipe: Any, index: int, timestep: Any, kwargs: dict[str, Any]) -> dict[str, Any]:
        pipe._interrupt = index == 3
        return kwargs

    for _ in range(2):
        for _ in range(2):
            rig.run(callback_on_step_end=interrupt)
        with pytest.raises(fc.TrajectoryError, match="fell short in the same way"):
            rig.run()
        assert torch.equal(rig.run(), whole)
    assert torch.equal(rig.run(), whole)


def test_another_number_of_steps_than_declared_is_refused(rig: Rig):
    check_step_count(rig)


def test_the_pipeline_finds_every_attribute_it_reads(rig: Rig):
    check_attributes(rig)


def test_output_types_are_those_of_the_original(rig: Rig):
    check_output_types(rig)


@pytest.mark.exhaustive
def test_the_pipeline_can_be_cast_after_a_run():
    check_cast(Rig(flux_pipeline(), run_flux), torch.bfloat16)
