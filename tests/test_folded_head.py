"""A model large enough that its last modulation is folded and its embedding added last, against a cache by hand."""

from __future__ import annotations

import pytest
import torch
from peers import by_hand
from torch import Tensor

import fouriercache as fc
from tests.tiny import ROUNDING, labels, noise, step_inputs, tiny_dit

SIZE = 32
TIMESTEPS = (900, 800, 700, 600)
COMPUTED = (0, 2)
METHOD = fc.FORA(site="stack", schedule=fc.Table(COMPUTED))


@pytest.fixture(scope="module")
def fast() -> fc.OptimizedModule:
    example = step_inputs(noise(2, SIZE), TIMESTEPS[0], labels(2))
    return fc.optimize(tiny_dit(size=SIZE), METHOD, num_steps=len(TIMESTEPS), example_inputs=example)


def test_both_are_done_in_cached_steps_alone(fast: fc.OptimizedModule):
    targets = {mode: {str(node.target) for node in fast.program(mode).calls()} for mode in ("compute", "reuse")}
    assert {"aten.addmm.default", "aten.baddbmm.default"} <= targets["reuse"]
    assert not {"aten.addmm.default", "aten.baddbmm.default"} & targets["compute"]


@pytest.mark.parametrize("batch", [1, 2, 3])
@pytest.mark.parametrize("how", ["prepared", "not prepared", "with gradients"])
def test_loops_give_what_the_residual_kept_by_hand_gives(fast: fc.OptimizedModule, how: str, batch: int):
    peer = by_hand(fast.model, COMPUTED)
    peer.begin()
    session = fast.new_session()
    if how == "prepared":
        session.prepare(TIMESTEPS)
    x = noise(batch, SIZE)
    for timestep in TIMESTEPS:
        inputs = step_inputs(x, timestep, labels(batch))
        with torch.no_grad():
            want = peer.model(**inputs).sample
        with torch.set_grad_enabled(how == "with gradients"):
            have: Tensor = session(**inputs).sample.detach()
        assert float((have - want).abs().max()) <= ROUNDING * float(want.abs().max())
        x = x - want / len(TIMESTEPS)
