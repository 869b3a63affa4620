"""DiTPipeline, guided and not, with two blocks of the model the project ships; it has neither callbacks nor latents."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from fouriercache.models.demo import load_demo_model, load_demo_scheduler, sample
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
from tests.pipelines.runs import METHODS, STEPS, run_dit
from tests.pipelines.tiny import PIPELINE_NULL_CLASS, dit_pipeline, short_dit_pipeline

pytestmark = pytest.mark.slow

NO_GUIDANCE: dict[str, Any] = {"guidance_scale": 1.0}


@pytest.fixture(scope="module")
def rig() -> Rig:
    return Rig(short_dit_pipeline(), run_dit)


@pytest.mark.parametrize(
    "changes",
    [{}, NO_GUIDANCE, {"class_labels": [7]}, {"class_labels": [0, 4, 9]}],
    ids=["guided", "not guided", "other class", "batch of three"],
)
def test_interval_1_reproduces_the_pipeline_exactly(rig: Rig, changes: dict[str, Any]):
    check_exact(rig, **changes)


def test_the_pipeline_samples_what_the_projects_own_loop_samples_with_the_whole_model():
    noise = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    images = sample(
        load_demo_model(), load_demo_scheduler(), torch.tensor([1, 8]), noise, num_steps=STEPS, guidance=1.5
    )
    piped = Rig(dit_pipeline(), run_dit).run(class_labels=[1, 8])
    torch.testing.assert_close(piped, (images / 2 + 0.5).clamp(0, 1), rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", METHODS)
def test_interval_4_computes_the_scheduled_steps_alone(rig: Rig, name: str):
    check_cached(rig, name)


def test_both_halves_of_the_guidance_are_one_pass(rig: Rig):
    rig.put("TaylorSeer at branches", 4)
    assert [given["class_labels"].tolist() for given in record_inputs(rig)] == [[2, PIPELINE_NULL_CLASS]] * STEPS


def test_requests_of_different_kinds_follow_each_other(rig: Rig):
    check_requests_in_a_row(rig, [{}, NO_GUIDANCE, {"class_labels": [7]}, {"class_labels": [0, 4, 9]}])


def test_prepared_timesteps_change_no_more_than_rounding(rig: Rig):
    check_prepared(rig)


@pytest.mark.parametrize("step", [0, 3])
@pytest.mark.parametrize("changes", [{}, NO_GUIDANCE, {"class_labels": [7, 3]}], ids=["same", "not guided", "batch"])
def test_a_run_broken_off_leaves_no_trace_in_the_next(
    rig: Rig, step: int, changes: dict[str, Any], monkeypatch: pytest.MonkeyPatch
):
    def break_off() -> None:
        whole, steps = rig.pipe.scheduler.step, iter(range(STEPS))

        def stop(*args: Any, **kwargs: Any) -> Any:
            if next(steps) == step:
                raise StopRun
            return whole(*args, **kwargs)

        with monkeypatch.context() as patch:
            patch.setattr(rig.pipe.scheduler, "step", stop)
            rig.run(**changes)

    check_broken_off(rig, break_off)


def test_another_number_of_steps_than_declared_is_refused(rig: Rig):
    check_step_count(rig)


def test_the_pipeline_finds_every_attribute_it_reads(rig: Rig):
    check_attributes(rig)


def test_output_types_are_those_of_the_original(rig: Rig):
    check_output_types(rig)


def test_images_come_as_pictures_too(rig: Rig):
    rig.put("TaylorSeer at branches", 4)
    (images,) = rig.pipe(class_labels=[2], num_inference_steps=STEPS, return_dict=False)
    assert [image.size for image in images] == [(32, 32)]


def test_the_pipeline_can_be_cast_after_a_run():
    check_cast(Rig(short_dit_pipeline(), run_dit), torch.bfloat16)
