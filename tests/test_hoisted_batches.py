"""When the conditioning of a whole trajectory is not run in one batch: it is too large, or its rows would differ."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import fouriercache as fc
from fouriercache.runtime import conditioning
from tests.test_conditioning import CountCalls, count_calls
from tests.tiny import METHOD, ROUNDING, TIMESTEPS, denoise, distance, is_same, noise, tiny_dit

aten = torch.ops.aten


def test_a_batch_of_hoisted_values_above_the_bound_is_not_run(monkeypatch):
    model = tiny_dit()
    fast = fc.optimize(model, METHOD, num_steps=len(TIMESTEPS))
    want = denoise(fast.new_session())
    monkeypatch.setattr(conditioning, "LARGEST_BATCH", 1)
    session = fast.new_session()
    session.prepare(TIMESTEPS)
    denoise(session)
    found = count_calls(session)
    assert found[aten.sin.default] == len(TIMESTEPS)  # each step computes its own
    assert is_same(denoise(session), want)
    monkeypatch.undo()
    denoise(session)  # the first batch of all is compared with a step alone
    assert count_calls(session)[aten.sin.default] == 2


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(3, 6), nn.Linear(6, 3)

    def forward(self, x, level):
        return x + level[:, None, None] * self.second(torch.relu(self.first(x)))


class MixesRows(nn.Module):
    """Two residual blocks, gated by the timestep; with `mixes`, by those of the whole batch."""

    def __init__(self, mixes: bool) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.mixes = mixes
        self.blocks = nn.ModuleList(Block() for _ in range(2))
        self.eval()

    def forward(self, hidden_states, timestep):
        x = hidden_states.flatten(2).transpose(1, 2)
        level = torch.sin(timestep.float() / 300)
        if self.mixes:
            level = level - 0.5 * level.mean()
        level = level.to(x.dtype)
        for block in self.blocks:
            x = block(x, level)
        return x.transpose(1, 2).unflatten(2, hidden_states.shape[2:])


@pytest.mark.parametrize("mixes", [False, True])
def test_a_model_whose_rows_depend_on_each_other_is_not_run_in_a_batch(mixes):
    fast = fc.optimize(MixesRows(mixes), METHOD, num_steps=len(TIMESTEPS))

    def run(session):
        x, outputs = noise(), []
        with torch.no_grad():
            for value in TIMESTEPS:
                outputs.append(session(hidden_states=x, timestep=torch.full((2,), value)))
                x = x - outputs[-1] / 8
        return outputs

    want = run(fast.new_session())
    session = fast.new_session()
    session.prepare(TIMESTEPS)
    assert distance(run(session), want) < ROUNDING
    count = CountCalls()
    with count:
        assert distance(run(session), want) < ROUNDING
    assert count.calls[aten.sin.default] == (len(TIMESTEPS) if mixes else 2)
