"""Models that ask their tensors in Python: the answers are recorded, replayed to torch.export, and guarded."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import fouriercache as fc
from fouriercache.calls import Binder
from fouriercache.capture import capture
from fouriercache.program import NoMatch

METHOD = fc.FORA(interval=1)
WIDTH, TOKENS, TEXT = 8, 16, 6


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.qkv, self.out = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.mlp = nn.Sequential(nn.Linear(WIDTH, 2 * WIDTH), nn.GELU(), nn.Linear(2 * WIDTH, WIDTH))

    def forward(self, x, gate):
        q, k, v = self.qkv(x).chunk(3, dim=-1)
        x = x + gate * self.out(F.scaled_dot_product_attention(q, k, v))
        return x + gate * self.mlp(x)


class Asking(nn.Module):
    """A transformer of one block whose gate is `ask(model, hidden_states, timestep, mask)`, a tensor or a number."""

    def __init__(self, ask):
        super().__init__()
        self.blocks = nn.ModuleList([Block()])
        self.time, self.ask = nn.Linear(1, WIDTH), ask

    def forward(self, hidden_states, timestep, mask):
        gate = self.time(timestep[:, None] / 1000)[:, None] * self.ask(self, hidden_states, timestep, mask)
        for block in self.blocks:
            hidden_states = block(hidden_states, gate)
        return hidden_states


def by_branch(model, x, timestep, mask):
    return 2.0 if mask.all() else 0.5


def by_list(model, x, timestep, mask):
    return float(len(set(mask.sum(dim=1).tolist())))


def by_number(model, x, timestep, mask):
    return int(mask.sum()) / 7 + mask[0].sum().item()


def by_numpy(model, x, timestep, mask):
    return float(np.sqrt(mask.sum(dim=1).numpy()).sum())


def by_mask(model, x, timestep, mask):
    return torch.arange(float(TEXT)).expand(len(x), -1)[mask].mean()


def by_bound(model, x, timestep, mask):
    return torch.arange(1.0, 1.0 + TEXT)[: mask[0].sum()].sum()


def by_repeat(model, x, timestep, mask):
    return torch.arange(float(len(x))).repeat_interleave(mask.sum(dim=1)).mean()


def by_positions(model, x, timestep, mask):
    return torch.nonzero(mask)[:, 1].float().mean()


def by_range(model, x, timestep, mask):
    return torch.arange(mask[-1].sum()).float().sum() + 1


QUESTIONS = (by_branch, by_list, by_number, by_numpy, by_mask, by_bound, by_repeat, by_positions, by_range)


def asking(ask):
    torch.manual_seed(0)
    return Asking(ask).eval()


def call(*lengths, timestep=500.0, seed=0):
    """Keyword arguments of one call: a text of `lengths` words for each sample."""
    generator = torch.Generator().manual_seed(seed)
    return {
        "hidden_states": torch.randn(len(lengths), TOKENS, WIDTH, generator=generator),
        "timestep": torch.full((len(lengths),), timestep),
        "mask": torch.arange(TEXT) < torch.tensor(lengths)[:, None],
    }


def flat(arguments):
    return Binder(asking(by_branch)).flatten(arguments)


def run_each(fast, calls):
    """Run calls that each begin a trajectory."""
    for arguments in calls:
        fast.reset()
        fast(**arguments)


@pytest.mark.parametrize("ask", QUESTIONS)
def test_what_is_asked_is_captured_exactly_and_guarded(ask):
    captured = capture(asking(ask), call(6, 6), fixed=NoMatch("one batch size is enough"))
    assert captured.is_verified
    assert captured.serves(flat(call(6, 6, seed=1)))
    assert not captured.serves(flat(call(3, 4)))


def test_a_call_that_answers_otherwise_is_captured_anew():
    model = asking(by_branch)
    fast = fc.optimize(model, METHOD, num_steps=4)
    for lengths in ((6, 6), (3, 5)):
        fast.reset()
        assert torch.equal(fast(**call(*lengths)), model(**call(*lengths)))


def test_a_call_that_answers_alike_is_served_by_the_same_graph():
    model = asking(by_branch)
    fast = fc.optimize(model, METHOD, num_steps=4)
    fast(**call(6, 6))
    first = fast.program("compute")
    for lengths, size in (((6, 6), 2), ((6, 6, 6), 3)):
        fast.reset()
        assert torch.allclose(fast(**call(*lengths, seed=size)), model(**call(*lengths, seed=size)), atol=1e-6)
        assert fast.program("compute") is first


def test_a_mask_that_is_overwritten_in_place_is_asked_again():
    model = asking(by_branch)
    captured = capture(model, call(6, 6))
    seen = flat(call(6, 6))
    assert captured.serves(seen)
    seen.tensors[2][0, 3:] = False
    assert not captured.serves(seen)


def test_tensors_that_were_asked_lately_are_not_asked_again():
    captured = capture(asking(by_branch), call(6, 6))
    calls = [flat(call(*lengths)) for lengths in ((6, 6), (3, 6), (1, 1))]
    assert [captured.serves(asked) for asked in calls] == [True, False, False]
    assert captured.questions is not None
    asked: list[object] = []
    captured.questions.module.register_forward_hook(lambda *_: asked.append(1))
    assert [captured.serves(asked) for asked in calls] == [True, False, False]
    assert not asked
    with torch.inference_mode():
        inside = flat(call(6, 6))
    assert captured.serves(inside)
    assert captured.serves(inside)
    assert len(asked) == 2


def test_answers_that_change_in_mid_trajectory_are_refused():
    fast = fc.optimize(asking(by_branch), METHOD, num_steps=4)
    fast(**call(6, 6, timestep=900.0))
    with pytest.raises(fc.TrajectoryError, match=r"(?s)changed in mid-trajectory.*test_questions.py:\d+ in by_branch"):
        fast(**call(6, 3, timestep=800.0))
    fast.reset()
    fast(**call(6, 3, timestep=800.0))


def test_passes_of_one_step_may_answer_differently():
    model = asking(by_branch)
    fast = fc.optimize(model, METHOD, num_steps=2)
    for timestep in (900.0, 800.0):
        for name, length in (("cond", 6), ("uncond", 1)):
            inputs = call(6, length, timestep=timestep)
            with fast.cache_context(name):
                assert torch.equal(fast(**inputs), model(**inputs))


def test_a_model_that_asks_its_latents_at_each_step_is_refused_in_the_end():
    fast = fc.optimize(asking(lambda model, x, timestep, mask: float(x.mean())), METHOD, num_steps=9)
    with pytest.raises(fc.CaptureError, match=r"(?s)change from step to step.*test_questions.py:\d+ in <lambda>"):
        run_each(fast, [call(6, 6, seed=seed) for seed in range(9)])


def test_many_prompts_that_answer_differently_are_warned_of():
    fast = fc.optimize(asking(by_list), METHOD, num_steps=9)
    with pytest.warns(fc.RecaptureWarning, match=r"(?s)captured anew for each of 4 answers.*by_list"):
        run_each(fast, [call(length, 6) for length in (6, 1, 2, 3)])


def test_a_table_that_the_model_makes_in_its_first_call_is_never_a_fake_one():
    def by_table(model, x, timestep, mask):
        if not hasattr(model, "table"):
            model.table = torch.linspace(0, 1, TEXT)
        return model.table.sum()

    model = asking(by_table)
    capture(model, call(6, 6), verify=False)
    assert not hasattr(model, "table")
    capture(model, call(6, 6))
    assert type(model.table) is torch.Tensor


def test_says_nothing_of_questions_that_do_not_mind_the_inputs():
    captured = capture(asking(lambda model, x, timestep, mask: float(model.time.weight.sum())), call(6, 6))
    assert captured.questions is None
