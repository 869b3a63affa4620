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
from tests.pipelines.tiny import embeddings, flux_pipeline, short_dit_pipeline

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
