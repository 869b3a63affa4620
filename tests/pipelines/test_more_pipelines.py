"""Seven further pipelines around tiny denoisers: exact at interval 1, the scheduled steps at 4, requests in a row."""

from __future__ import annotations

from typing import Any

import pytest

import fouriercache as fc
from tests.pipelines.rig import Rig, check_cached, check_exact, check_requests_in_a_row
from tests.pipelines.runs import METHODS, PIPELINES, WAN22_STEPS, run_wan22
from tests.pipelines.tiny import embeddings
from tests.pipelines.tiny_zoo import TEXT, WIDTH, wan22_pipeline

pytestmark = pytest.mark.slow

NAME = "TaylorSeer at branches"
NO_GUIDANCE: dict[str, Any] = {"guidance_scale": 1.0}
OTHER_PROMPT: dict[str, Any] = {"prompt_embeds": embeddings(4, 1, TEXT, WIDTH)}

CASES: dict[str, tuple[int, int, dict[str, Any]]] = {
    "StableDiffusion3Pipeline": (1, 0, NO_GUIDANCE),
    "WanPipeline 2.2": (2, 0, NO_GUIDANCE),
    "CogVideoXPipeline": (1, 0, NO_GUIDANCE),
    "HunyuanVideoPipeline": (2, 1, {"true_cfg_scale": 1.0}),
    "LTXPipeline": (1, 0, NO_GUIDANCE),
    "LattePipeline": (1, 0, NO_GUIDANCE),
    "Open-Sora's loop": (1, 0, {"guidance": 2.0}),
}
"""Calls of a transformer in a step; how many of its attentions see the text alone; a request with another guidance."""


REPETITIONS = {"CogVideoXPipeline", "HunyuanVideoPipeline", "LTXPipeline", "LattePipeline", "Open-Sora's loop"}
"""They call their transformers as others do; `benchmarks/pipelines.py` runs them, too."""


@pytest.fixture(
    scope="module",
    params=[pytest.param(name, marks=pytest.mark.exhaustive if name in REPETITIONS else ()) for name in CASES],
)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def rig(name: str) -> Rig:
    build, run = PIPELINES[name]
    return Rig(build(), run)


def test_interval_1_reproduces_the_pipeline_exactly(rig: Rig):
    check_exact(rig)


def test_interval_4_computes_the_scheduled_steps_of_every_pass_alone(rig: Rig, name: str):
    passes, of_text, _ = CASES[name]
    check_cached(rig, NAME, passes, of_text)


def test_requests_of_different_kinds_follow_each_other(rig: Rig, name: str):
    check_requests_in_a_row(rig, [{}, CASES[name][2], OTHER_PROMPT])


def test_the_steps_of_a_whole_run_declared_for_each_of_two_transformers_are_refused_in_the_first_run():
    rig = Rig(wan22_pipeline(), run_wan22)
    method = METHODS["FORA at the stack"](4)
    rig.place({name: fc.optimize(model, method, num_steps=WAN22_STEPS) for name, model in rig.models.items()})
    left = rig.steps["transformer_2"]
    with pytest.raises(fc.TrajectoryError, match=rf"(?s)num_steps={WAN22_STEPS} begins.*num_steps={left}\).*Wan 2\.2"):
        rig.run()
