"""WanPipeline: video, and guidance as two calls a step, each in a `cache_context` of its own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import nn

import fouriercache as fc
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
    stop_after,
)
from tests.pipelines.runs import METHODS, STEPS, run_wan
from tests.pipelines.tiny import embeddings, wan_pipeline

pytestmark = pytest.mark.slow

NO_GUIDANCE: dict[str, Any] = {"guidance_scale": 1.0}

OTHER_PROMPT: dict[str, Any] = {"prompt_embeds": embeddings(4, 1, 5, 32)}

TWO_PROMPTS: dict[str, Any] = {
    "prompt_embeds": embeddings(5, 2, 5, 32),
    "negative_prompt_embeds": embeddings(6, 2, 5, 32),
}

SAME_PROMPT_TWICE: dict[str, Any] = {"negative_prompt_embeds": embeddings(0, 1, 5, 32)}
"""Both passes get equal inputs: nothing but the context tells them apart."""


class OneRequestForEachContext(nn.Module):
    """What an optimised transformer must be equal to: every context served by a request that sees no other."""

    def __init__(self, fast: fc.OptimizedModule) -> None:
        super().__init__()
        self.fast = fast
        self.config, self.dtype, self.device = fast.config, fast.dtype, fast.device
        self.requests = {"cond": fast.new_session(), "uncond": fast.new_session()}
        self.context = ""

    @contextmanager
    def cache_context(self, name: str, **information: Any) -> Iterator[None]:
        self.context = name
        yield

    def forward(self, **inputs: Any) -> Any:
        return self.requests[self.context](**inputs)


@pytest.fixture(scope="module")
def rig() -> Rig:
    return Rig(wan_pipeline(), run_wan)


@pytest.mark.parametrize(
    "changes",
    [{}, {"output_type": "pt"}, NO_GUIDANCE, OTHER_PROMPT, TWO_PROMPTS, SAME_PROMPT_TWICE],
    ids=["latents", "video", "no guidance", "other prompt", "batch of two", "equal passes"],
)
def test_interval_1_reproduces_the_pipeline_exactly(rig: Rig, changes: dict[str, Any]):
    check_exact(rig, **changes)


@pytest.mark.parametrize("name", METHODS)
def test_interval_4_computes_the_scheduled_steps_of_both_passes_alone(rig: Rig, name: str):
    check_cached(rig, name, passes=2)


def test_one_pass_a_step_without_guidance(rig: Rig):
    check_cached(rig, "TaylorSeer at branches", passes=1, **NO_GUIDANCE)


@pytest.mark.parametrize("name", METHODS)
def test_each_pass_has_a_cache_of_its_own(rig: Rig, name: str):
    fast = rig.put(name, 4)
    together = rig.run()
    both = fast.cache_bytes
    router = OneRequestForEachContext(fast)
    rig.pipe.transformer = router
    assert torch.equal(rig.run(), together)
    assert both == sum(request.cache_bytes for request in router.requests.values())
    assert len({request.cache_bytes for request in router.requests.values()}) == 1


def test_requests_of_different_kinds_follow_each_other(rig: Rig):
    check_requests_in_a_row(rig, [{}, NO_GUIDANCE, OTHER_PROMPT, TWO_PROMPTS, SAME_PROMPT_TWICE])


def test_prepared_timesteps_change_no_more_than_rounding(rig: Rig):
    check_prepared(rig)


@pytest.mark.parametrize("step", [0, 3])
@pytest.mark.parametrize("changes", [{}, NO_GUIDANCE, TWO_PROMPTS], ids=["guided", "not guided", "batch of two"])
def test_a_run_broken_off_leaves_no_trace_in_the_next(rig: Rig, step: int, changes: dict[str, Any]):
    check_broken_off(rig, lambda: rig.run(callback_on_step_end=stop_after(step), **changes))


def test_a_run_that_fails_between_its_passes_leaves_no_trace_in_the_next(rig: Rig):
    def break_off() -> None:
        calls = iter(range(2 * STEPS))
        handle = rig.pipe.transformer.register_forward_pre_hook(lambda *_: stop_at(next(calls)))
        try:
            rig.run()
        finally:
            handle.remove()

    def stop_at(index: int) -> None:
        if index == 7:  # the second pass of step 3
            raise StopRun

    check_broken_off(rig, break_off)


def test_another_number_of_steps_than_declared_is_refused(rig: Rig):
    check_step_count(rig, is_said=True)


def test_the_pipeline_finds_every_attribute_it_reads(rig: Rig):
    check_attributes(rig)


def test_output_types_are_those_of_the_original(rig: Rig):
    check_output_types(rig)


@pytest.mark.exhaustive
def test_the_pipeline_can_be_cast_after_a_run():
    check_cast(Rig(wan_pipeline(), run_wan), torch.bfloat16)
