"""Cached steps whose timesteps are known: their sums are made for several at once, and are what each makes alone."""

from __future__ import annotations

import pytest
import torch
from launches import CountCalls

import fouriercache as fc
from fouriercache.capture import capture
from fouriercache.errors import TrajectoryError
from fouriercache.passes.ahead import look_ahead
from fouriercache.passes.pipeline import build_steps
from fouriercache.runtime import sums
from fouriercache.runtime.backend import backend_from_name
from tests.tiny import ROUNDING, denoise, distance, is_same, labels, noise, step_inputs, tiny_dit

STEPS = tuple(range(950, 350, -50))
COMPUTED = (0, 1, 6, 8)
"""Cached in between: four steps, one step, three steps."""

METHODS = {
    "reused": fc.Method("test", "branch", fc.Table(COMPUTED), fc.Reuse()),
    "predicted": fc.Method("test", "branch", fc.Table(COMPUTED), fc.Taylor(2)),
    "blocks": fc.Method("test", "block", fc.Table(COMPUTED), fc.Taylor(1)),
    "int8": fc.Method("test", "branch", fc.Table(COMPUTED), fc.Taylor(1), codec=fc.Quantized("int8")),
    "truncated": fc.Method("test", "branch", fc.Table(COMPUTED), fc.Taylor(1), codec=fc.LowPass(0.5)),
    "bands": fc.FreqCa(site="branch", schedule=fc.Table(COMPUTED)),
}


@pytest.fixture(autouse=True)
def fusing(monkeypatch):
    """Let the eager backend do what one does that fuses calls."""
    monkeypatch.setattr(type(backend_from_name("eager")), "fuses", True)


def reuse_of(method, model):
    found = capture(model, step_inputs(noise(), STEPS[0], labels()))
    return build_steps(found, method).modes["reuse"].moving


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
def test_a_prepared_trajectory_gives_what_one_gives_that_knows_no_timesteps(name):
    fast = fc.optimize(tiny_dit(), METHODS[name], num_steps=len(STEPS))
    want = run(fast.new_session())
    session = fast.new_session()
    session.prepare(STEPS)
    assert distance(run(session), want) < ROUNDING
    assert distance(run(session), want) < ROUNDING  # and a second one of the same session


def test_the_first_of_several_cached_steps_makes_the_sums_of_all():
    fast = fc.optimize(tiny_dit(), METHODS["predicted"], num_steps=len(STEPS))
    session = fast.new_session()
    session.prepare(STEPS)
    run(session)
    counts = launches(session)
    alone = counts[7]  # computed before and behind it: nothing to make ahead
    assert counts[3] == counts[4] == counts[5] == counts[10] == counts[11]
    assert counts[4] < alone - 8  # twelve kept values are summed by one step for all
    assert counts[2] > alone
    assert sum(counts[2:6]) > 3 * alone  # no sum is left out


def test_no_more_sums_are_kept_than_are_to_come(monkeypatch):
    fast = fc.optimize(tiny_dit(), METHODS["reused"], num_steps=len(STEPS))
    plain, session = fast.new_session(), fast.new_session()
    session.prepare(STEPS)
    stream = 2 * 16 * 16 * 4  # bytes of [batch, tokens, width] in float32
    held = []
    run(session, before_step=lambda _: held.append(session.held_bytes - session.cache_bytes))
    held.append(session.held_bytes - session.cache_bytes)
    hoisted = held[6]  # all of it is there once both modes have run
    assert [bytes_ - hoisted for bytes_ in held[3:7]] == [3 * stream, 2 * stream, stream, 0]
    monkeypatch.setattr(sums, "MOST_STEPS", 2)
    held.clear()
    assert distance(run(session, before_step=lambda _: held.append(session.held_bytes)), run(plain)) < ROUNDING
    assert held[3] - held[4] == held[5] - held[6] == stream
    assert held[4] == held[6]


def test_a_weight_that_changes_between_cached_steps_changes_the_sums_that_are_to_come():
    model = tiny_dit()
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
    fast = fc.optimize(tiny_dit(), METHODS["predicted"], num_steps=len(STEPS))

    def go(session):
        x, outputs = noise(), []
        with torch.no_grad():
            for step, timestep in enumerate(STEPS):
                outputs.append(session(**step_inputs(x, timestep, labels(first=1 if step < 4 else 5))).sample)
        return outputs

    session, other = fast.new_session(), fast.new_session()
    session.prepare(STEPS)
    other.prepare(STEPS)
    monkeypatch.setattr(other._session, "following", lambda _: [])  # each step makes its own
    assert is_same(go(session), go(other))


def test_a_step_that_fails_and_is_called_again_has_its_sums():
    fast = fc.optimize(tiny_dit(), METHODS["predicted"], num_steps=len(STEPS))
    session = fast.new_session()
    session.prepare(STEPS)
    want = run(session)

    def fail_first(step):
        if step in (2, 4):
            with pytest.raises(TrajectoryError, match="finite"):
                session(**step_inputs(torch.full_like(noise(), torch.nan), STEPS[step], labels()))

    assert is_same(run(session, before_step=fail_first), want)


def test_named_passes_have_sums_of_their_own():
    fast = fc.optimize(tiny_dit(), METHODS["predicted"], num_steps=len(STEPS))

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


def test_a_step_with_gradients_makes_its_own_sums():
    fast = fc.optimize(tiny_dit(), METHODS["predicted"], num_steps=len(STEPS))
    session = fast.new_session()
    session.prepare(STEPS)
    want = run(session)
    x = noise()
    for step, timestep in enumerate(STEPS[:4]):
        given = x.detach().requires_grad_()
        result = session(**step_inputs(given, timestep, labels())).sample
        (gradient,) = torch.autograd.grad(result.sum(), given)
        assert gradient.abs().sum() > 0
        assert distance([result.detach()], want[step : step + 1]) < ROUNDING
        x = x - result.detach() / 8


def test_half_precision_streams_are_summed_ahead_too():
    fast = fc.optimize(tiny_dit().bfloat16(), METHODS["predicted"], num_steps=len(STEPS))
    session = fast.new_session()
    session.prepare(STEPS)
    found = run(session, torch.bfloat16)
    assert distance(found, run(fast.new_session(), torch.bfloat16)) < 2**-6
    assert fast.captured[0].ahead(True) is not None


@pytest.mark.parametrize(
    ("method", "fusing", "running"),
    [
        (METHODS["predicted"], True, False),  # call by call, every step reads every kept value
        (METHODS["int8"], True, True),  # which are decoded once
        (METHODS["bands"], False, False),  # every step transforms its own sum back
        (fc.Method("test", "stack", fc.Table(COMPUTED), fc.Taylor(2)), False, False),  # three kept values for one sum
    ],
)
def test_nothing_is_made_ahead_where_that_saves_nothing(method, fusing, running):
    moving = reuse_of(method, tiny_dit())
    before = moving.text()
    assert (look_ahead(moving, fuses=True) is not None) == fusing
    assert (look_ahead(moving, fuses=False) is not None) == running
    assert moving.text() == before


def test_the_sums_of_several_steps_are_those_of_each_and_every_kept_value_is_read_once():
    ahead = look_ahead(reuse_of(METHODS["predicted"], tiny_dit()), fuses=True)
    assert ahead is not None
    three = ahead.repeated(3)
    three.verify()
    assert len(three.inputs_of("slot")) == len(ahead.sums.inputs_of("slot")) == 12
    generator = torch.Generator().manual_seed(0)

    def draw(program, roles):
        nodes = [n for n, given in zip(program.placeholders, program.inputs, strict=True) if given.role in roles]
        sizes = [[2 if not isinstance(n, int) else n for n in node.meta["val"].shape] for node in nodes]
        return [torch.randn(size, generator=generator) for size in sizes]

    own_roles = {given.role for given in ahead.own}
    assert own_roles == {"hoisted", "coefficients"}
    shared = draw(ahead.sums, {"slot"})
    own = [draw(ahead.sums, own_roles) for _ in range(3)]
    module, alone = three.module(), ahead.sums.module()
    found = module(*shared, *(value for values in own for value in values))
    want = [result for values in own for result in alone(*shared, *values)]
    assert is_same(list(found), want)
