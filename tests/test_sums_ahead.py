"""Cached steps whose timesteps are known: their sums are made for several at once, and are what each makes alone."""

from __future__ import annotations

import pytest
import torch
from launches import CountCalls
from torch import nn

import fouriercache as fc
from fouriercache.errors import TrajectoryError
from fouriercache.runtime import stepper, sums
from fouriercache.runtime.backend import backend_from_name
from tests.tiny import ROUNDING, denoise, distance, is_same, labels, noise, step_inputs, tiny_dit

STEPS = tuple(range(950, 350, -50))
COMPUTED = (0, 1, 6, 8)
"""Cached in between: four steps, one step, three steps."""

METHODS = {
    "reused": fc.Method("test", "branch", fc.Table(COMPUTED), fc.Reuse()),
    "predicted": fc.Method("test", "branch", fc.Table(COMPUTED), fc.Taylor(2)),
    "blocks": fc.Method("test", "block", fc.Table(COMPUTED), fc.Taylor(2)),
    "int8": fc.Method("test", "branch", fc.Table(COMPUTED), fc.Taylor(3), codec=fc.Quantized("int8")),
}
"""On four blocks, all of these make sums ahead."""


@pytest.fixture(autouse=True)
def fusing(monkeypatch):
    """Let the eager backend do what one does that fuses calls."""
    monkeypatch.setattr(type(backend_from_name("eager")), "fuses", True)


@pytest.fixture
def made(monkeypatch):
    """How many steps sums were made for, each time that some were."""
    counts: list[int] = []
    make = sums.SumsAhead.make

    def count(self, plan, steps, *rest):
        counts.append(len(steps))
        return make(self, plan, steps, *rest)

    monkeypatch.setattr(sums.SumsAhead, "make", count)
    return counts


def four_blocks():
    return tiny_dit(layers=4)


def run(session, model_dtype=torch.float32, **options):
    return denoise(session, x=noise().to(model_dtype), timesteps=STEPS, **options)


def launches(session):
    """Launches of each step of a trajectory whose captures and hoisted values are all there."""
    counts = []
    x = noise()
    with torch.no_grad():
        for timestep in STEPS:
            with CountCalls() as calls:
                x = x - session(**step_inputs(x, timestep, labels())).sample / 8
            counts.append(calls.launches)
    return counts


@pytest.mark.parametrize("name", METHODS)
def test_a_prepared_trajectory_gives_what_one_gives_that_knows_no_timesteps(name, made):
    fast = fc.optimize(four_blocks(), METHODS[name], num_steps=len(STEPS))
    want = run(fast.new_session())
    session = fast.new_session()
    session.prepare(STEPS)
    assert made == []
    assert distance(run(session), want) < ROUNDING
    assert distance(run(session), want) < ROUNDING  # and a second one of the same session
    assert made == [4, 3, 4, 3]


def test_the_first_of_several_cached_steps_makes_the_sums_of_all():
    fast = fc.optimize(four_blocks(), METHODS["predicted"], num_steps=len(STEPS))
    session = fast.new_session()
    session.prepare(STEPS)
    run(session)
    counts = launches(session)
    alone = counts[7]  # computed before and behind it: nothing to make ahead
    assert counts[3] == counts[4] == counts[5] == counts[10] == counts[11]
    assert counts[4] < alone - 20  # twenty-four kept values are summed by one step for all
    assert counts[2] > alone
    assert sum(counts[2:6]) > 3 * alone  # no sum is left out


def test_no_more_sums_are_kept_than_are_to_come(monkeypatch):
    fast = fc.optimize(four_blocks(), METHODS["reused"], num_steps=len(STEPS))
    plain, session = fast.new_session(), fast.new_session()
    session.prepare(STEPS)
    stream = 2 * 16 * 16 * 4  # bytes of [batch, tokens, width] in float32
    held = []
    run(session, before_step=lambda _: held.append(session.held_bytes - session.cache_bytes))
    held.append(session.held_bytes - session.cache_bytes)
    hoisted = held[6]  # all of it is there once both modes have run
    assert [bytes_ - hoisted for bytes_ in held[3:7]] == [3 * stream, 2 * stream, stream, 0]
    estimate = fast.report.cost("h200", prepared=True)
    copies = max(held) + stream - estimate.hoisted  # of latents and conditioning; the estimate has the first sum, too
    assert 0 <= copies < 4096
    monkeypatch.setattr(stepper, "MOST_STEPS", 2)
    held.clear()
    assert distance(run(session, before_step=lambda _: held.append(session.held_bytes)), run(plain)) < ROUNDING
    assert held[3] - held[4] == held[5] - held[6] == stream
    assert held[4] == held[6]


def test_a_weight_that_changes_between_cached_steps_changes_the_sums_that_are_to_come():
    model = four_blocks()
    fast = fc.optimize(model, METHODS["predicted"], num_steps=len(STEPS))
    gate = model.transformer_blocks[1].norm1.linear.weight.requires_grad_(False)

    def double_gates(step):
        if step in (4, 11):
            gate.mul_(2.0 if step == 4 else 0.5)

    want, plain = run(fast.new_session(), before_step=double_gates), run(fast.new_session())
    assert distance(want[:4], plain[:4]) == 0 < 1e-3 < distance(want[4:5], plain[4:5])
    session = fast.new_session()
    session.prepare(STEPS)
    assert distance(run(session, before_step=double_gates), want) < ROUNDING


def test_other_conditioning_between_cached_steps_changes_the_sums_that_are_to_come(monkeypatch):
    fast = fc.optimize(four_blocks(), METHODS["predicted"], num_steps=len(STEPS))

    def go(session):
        x, outputs = noise(), []
        with torch.no_grad():
            for step, timestep in enumerate(STEPS):
                outputs.append(session(**step_inputs(x, timestep, labels(first=1 if step < 4 else 5))).sample)
        return outputs

    session, other = fast.new_session(), fast.new_session()
    session.prepare(STEPS)
    other.prepare(STEPS)
    monkeypatch.setattr(other._session, "following", lambda *_: [])  # each step makes its own
    assert is_same(go(session), go(other))


def test_a_step_that_fails_and_is_called_again_has_its_sums():
    fast = fc.optimize(four_blocks(), METHODS["predicted"], num_steps=len(STEPS))
    session = fast.new_session()
    session.prepare(STEPS)
    want = run(session)

    def fail_first(step):
        if step in (2, 4):
            with pytest.raises(TrajectoryError, match="finite"):
                session(**step_inputs(torch.full_like(noise(), torch.nan), STEPS[step], labels()))

    assert is_same(run(session, before_step=fail_first), want)


def test_named_passes_have_sums_of_their_own():
    fast = fc.optimize(four_blocks(), METHODS["predicted"], num_steps=len(STEPS))

    def go(session):
        x, outputs = noise(), []
        with torch.no_grad():
            for timestep in STEPS:
                for name, first in (("cond", 1), ("uncond", 5)):
                    with session.cache_context(name):
                        outputs.append(session(**step_inputs(x, timestep, labels(first=first))).sample)
                x = x - (2 * outputs[-2] - outputs[-1]) / 8
        return outputs

    session = fast.new_session()
    session.prepare(STEPS)
    assert distance(go(session), go(fast.new_session())) < ROUNDING


def test_a_step_with_gradients_makes_its_own_sums_though_some_were_made_for_it():
    model = four_blocks()
    gate = model.transformer_blocks[1].norm1.linear.weight
    fast = fc.optimize(model, METHODS["predicted"], num_steps=len(STEPS))
    session = fast.new_session()
    session.prepare(STEPS)
    want = run(session)
    x = noise()
    for step, timestep in enumerate(STEPS[:5]):
        with torch.set_grad_enabled(step == 3):
            result = session(**step_inputs(x, timestep, labels())).sample
        if step == 3:
            (gradient,) = torch.autograd.grad(result.sum(), gate)
            assert gradient.abs().sum() > 0
        assert distance([result.detach()], want[step : step + 1]) < ROUNDING
        x = x - result.detach() / 8


def test_half_precision_streams_are_summed_ahead_too(made):
    fast = fc.optimize(four_blocks().bfloat16(), METHODS["predicted"], num_steps=len(STEPS))
    session = fast.new_session()
    session.prepare(STEPS)
    found = run(session, torch.bfloat16)
    assert made == [4, 3]
    assert distance(found, run(fast.new_session(), torch.bfloat16)) < 2**-6


def test_conditioning_that_changes_in_every_step_has_no_sums_made_ahead(made):
    fast = fc.optimize(four_blocks(), METHODS["predicted"], num_steps=len(STEPS))

    def go(session):
        x, outputs = noise(), []
        with torch.no_grad():
            for step, timestep in enumerate(STEPS):
                outputs.append(session(**step_inputs(x, timestep, labels(first=step % 5))).sample)
        return outputs

    session = fast.new_session()
    session.prepare(STEPS)
    first = go(session)
    assert is_same(go(session), first)
    assert made == []  # it had changed before the first of them


class Chosen(fc.ToCaRatio):
    """Five tokens at steps 3 and 9, none at others: tokens are written into what the steps in between read."""

    def count(self, place, step, num_steps):
        return 5 if step in (3, 9) else 0


def test_steps_between_which_tokens_are_computed_share_no_sums(made):
    tokens = fc.TopK(fc.TokenNorm(), Chosen(0.5))
    method = fc.Method("test", "branch", fc.Table(COMPUTED), fc.Reuse(), tokens=tokens)
    fast = fc.optimize(four_blocks(), method, num_steps=len(STEPS))
    session = fast.new_session()
    session.prepare(STEPS)
    assert distance(run(session), run(fast.new_session())) < ROUNDING
    assert made == []


class ReadsItsTimestep(nn.Module):
    """Blocks that multiply what they add by the timestep itself, which nothing hoists."""

    def __init__(self, scale: float = 1.0) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.blocks = nn.ModuleList(Scaled() for _ in range(4))
        self.eval()

    def forward(self, hidden_states, timestep, scale: float = 1.0):
        x = hidden_states.flatten(2).transpose(1, 2)
        for block in self.blocks:
            x = block(x, timestep / 1000, scale)
        return x.transpose(1, 2).unflatten(2, hidden_states.shape[2:])


class Scaled(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attn, self.ff = nn.Linear(3, 3), nn.Sequential(nn.Linear(3, 6), nn.GELU(), nn.Linear(6, 3))

    def forward(self, x, level, scale):
        gate = level[:, None, None]
        return x + gate * self.ff(x) * scale


def steps_of(session, scale_at=lambda _: 1.0):
    x, outputs = noise(), []
    with torch.no_grad():
        for step, timestep in enumerate(STEPS):
            outputs.append(session(hidden_states=x, timestep=torch.full((2,), float(timestep)), scale=scale_at(step)))
            x = x - outputs[-1] / 8
    return outputs


def test_another_capture_in_mid_trajectory_makes_its_own_sums(made):
    method = fc.Method("test", "branch", fc.Table(COMPUTED), fc.Taylor(2))
    fast = fc.optimize(ReadsItsTimestep(), method, num_steps=len(STEPS))

    def scale_at(step):
        return 1.0 if step < 4 else 3.0

    want = steps_of(fast.new_session(), scale_at)
    session = fast.new_session()
    session.prepare(STEPS)
    assert distance(steps_of(session, scale_at), want) < ROUNDING
    assert made == [4, 2, 3]
