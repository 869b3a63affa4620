"""Which pipelines show their transformer the scheduler's list: each timestep they pass is a view of it."""

from __future__ import annotations

from typing import Any

import pytest
from torch import nn

from fouriercache.runtime.coming import runs_on
from fouriercache.runtime.far import Stamps
from tests.pipelines.runs import PIPELINES, steps_of_each

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings(
        "ignore:__array__ implementation doesn't accept:DeprecationWarning"
    ),  # PixArt's scheduler
]

SHOWN = {
    "DiTPipeline",
    "PixArtAlphaPipeline",
    "StableDiffusion3Pipeline",
    "WanPipeline",
    "WanPipeline 2.2",
    "LTXPipeline",
    "CogVideoXPipeline",
    "LattePipeline",
    "HunyuanVideoPipeline",  # in float32; to another dtype it casts, and a cast is no view
}
"""The other two compute a tensor of it: FLUX divides, and Open-Sora's loop has its own."""


@pytest.mark.parametrize("name", PIPELINES)
def test_a_pipeline_shows_the_list_or_a_number_alone(name: str):
    build, run = PIPELINES[name]
    pipe = build()
    last, steps = list(steps_of_each(pipe).items())[-1]
    seen: list[tuple[float, ...]] = []

    def look(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        stamp = kwargs["timestep"] if "timestep" in kwargs else args[1]
        seen.append(Stamps().coming(stamp))

    getattr(pipe, last).register_forward_pre_hook(look, with_kwargs=True)
    run(pipe)
    passes = len(seen) // steps
    lists = [seen[at] for at in range(0, len(seen), passes)]
    is_shown = [runs_on(listed, steps - step, "down") for step, listed in enumerate(lists)]
    assert is_shown == [name in SHOWN] * steps
