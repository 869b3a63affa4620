"""Pipelines as calibration sets: which calls are made, and that the pipeline given is left as it was."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

import fouriercache as fc
from fouriercache.calibration.loop import relative_error
from fouriercache.calibration.pipelines import sample_with_pipeline
from fouriercache.errors import CalibrationError
from tests.pipelines.tiny import embeddings, flux_pipeline, short_dit_pipeline, wan_pipeline

pytestmark = pytest.mark.slow

STEPS = 6
METHOD = fc.TaylorSeer(order=1, warmup=1, site="stack")
DIT = {"class_labels": [2], "guidance_scale": 1.5}
FLUX = {
    "prompt_embeds": embeddings(0, 1, 5, 32),
    "pooled_prompt_embeds": embeddings(1, 1, 32),
    "true_cfg_scale": 3.0,  # two passes a step
    "negative_prompt_embeds": embeddings(2, 1, 5, 32),
    "negative_pooled_prompt_embeds": embeddings(3, 1, 32),
    "height": 8,
    "width": 8,
}


@pytest.mark.parametrize(
    ("build", "call"),
    [
        pytest.param(short_dit_pipeline, DIT, id="DiT"),
        pytest.param(flux_pipeline, FLUX, id="FLUX", marks=pytest.mark.exhaustive),
    ],
)
def test_calibrates_a_pipeline_and_leaves_it_as_it_was(build: Callable[[], Any], call: dict[str, Any]):
    pipe = build()
    before = dict(pipe.components)
    config = dict(pipe.scheduler.config)
    found = fc.calibrate(pipe, METHOD, num_steps=STEPS, steps=(0, 1, 3), call=call, seeds=(0, 1), progress=False)
    assert all(pipe.components[name] is component for name, component in before.items())
    assert dict(pipe.scheduler.config) == config
    assert len(found.timesteps) == STEPS
    assert found.scheduler is not None
    assert 0 < found.errors["found"] < 1

    sample = sample_with_pipeline(pipe, call, (0, 1), STEPS)
    uncached = sample(pipe.transformer)
    assert len(uncached) == 2
    assert not torch.equal(uncached[0], uncached[1])
    fast = fc.optimize(pipe.transformer, METHOD, calibration=found)
    assert relative_error(sample(fast), uncached) == found.errors["found"]
    pipe.transformer = fast
    pipe.set_progress_bar_config(disable=True)
    with pytest.raises(CalibrationError, match="other timesteps"):
        pipe(**call, num_inference_steps=STEPS - 1, output_type="latent", return_dict=False)


def test_a_shift_by_size_moves_the_timesteps_and_the_steps_alone_serve_any_size():
    pipe, once = flux_pipeline(), {**FLUX, "true_cfg_scale": 1.0}
    found = fc.calibrate(pipe, fc.Tuned(), num_steps=STEPS, steps=(0, 2, 5), call=once, seeds=(0,), progress=False)
    pipe.set_progress_bar_config(disable=True)
    model = pipe.transformer
    pipe.transformer = fc.optimize(model, fc.Tuned(), calibration=found)
    larger = {**once, "height": 32, "width": 32, "num_inference_steps": STEPS, "output_type": "latent"}
    with pytest.raises(
        CalibrationError, match=r"(?s)use_dynamic_shifting.*fc\.Tuned\(schedule=fc\.Table\(found\.steps\)"
    ):
        pipe(**larger)
    pipe.transformer = fc.optimize(model, fc.Tuned(schedule=fc.Table(found.steps)), num_steps=found.num_steps)
    for call in (larger, {**larger, "height": 8, "width": 8}):
        assert pipe(**call).images.isfinite().all()
        assert set(pipe.transformer.session.computed_steps.values()) == {(0, 2, 5)}


def test_refuses_what_is_no_pipeline_with_a_transformer():
    with pytest.raises(CalibrationError, match="no diffusers pipeline with a transformer"):
        fc.calibrate(object(), METHOD, num_steps=STEPS, call={})
    with pytest.raises(CalibrationError, match="needs call="):
        fc.calibrate(short_dit_pipeline(), METHOD, num_steps=STEPS)
    with pytest.raises(CalibrationError, match="No seed"):
        fc.calibrate(short_dit_pipeline(), METHOD, num_steps=STEPS, call=DIT, seeds=())


def test_several_calls_are_one_set():
    pipe = short_dit_pipeline()
    calls = [DIT, {**DIT, "guidance_scale": 4.0}]
    both = sample_with_pipeline(pipe, calls, (0,), STEPS)(pipe.transformer)
    assert len(both) == 2
    for row, call in zip(both, calls, strict=True):
        assert torch.equal(row[None], sample_with_pipeline(pipe, call, (0,), STEPS)(pipe.transformer))
    assert not torch.equal(both[0], both[1])
    with pytest.raises(CalibrationError, match="No call"):
        sample_with_pipeline(pipe, [], (0,), STEPS)


WAN = {
    "prompt_embeds": embeddings(0, 1, 8, 32),
    "negative_prompt_embeds": embeddings(1, 1, 8, 32),
    "height": 16,
    "width": 16,
    "num_frames": 5,
    "guidance_scale": 1.0,
}


def test_the_copy_samples_with_the_pipelines_configuration():
    pipe = wan_pipeline()
    pipe.register_to_config(expand_timesteps=True)  # a timestep for each token, as in Wan 2.2's 5B model
    pipe.scheduler.set_shift(2.0)  # stands in no configuration
    shapes = []
    pipe.transformer.register_forward_pre_hook(
        lambda _, __, kwargs: shapes.append(tuple(kwargs["timestep"].shape)), with_kwargs=True
    )
    before = dict(pipe.config)
    ours = sample_with_pipeline(pipe, WAN, (0,), 3)(pipe.transformer)
    assert dict(pipe.config) == before
    pipe.set_progress_bar_config(disable=True)
    generator = torch.Generator().manual_seed(0)
    theirs = pipe(**WAN, num_inference_steps=3, generator=generator, output_type="latent", return_dict=False)[0]
    assert shapes[:3] == shapes[3:]
    assert len(shapes[0]) == 2  # batch, tokens
    assert torch.equal(ours, theirs)


def test_refuses_a_pipeline_of_two_transformers_in_calibrate_and_analyze():
    pipe = wan_pipeline()
    pipe.register_modules(transformer_2=wan_pipeline().transformer)
    pipe.register_to_config(boundary_ratio=0.5)
    with pytest.raises(CalibrationError, match="WanPipeline has two transformers"):
        fc.calibrate(pipe, METHOD, num_steps=STEPS, call=WAN)
    with pytest.raises(CalibrationError, match="num_steps= the steps that are its own"):
        fc.analyze(pipe, num_steps=STEPS, call=WAN)
