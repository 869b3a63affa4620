"""Cutting a cached step in two where the latents are first needed, and repeating what is needed before."""

from __future__ import annotations

import pytest
import torch

import fouriercache as fc
from fouriercache.capture import capture
from fouriercache.passes.ahead import look_ahead
from fouriercache.passes.pipeline import build_steps
from fouriercache.program import NoMatch, Role
from fouriercache.testing import trace
from tests.test_sums_ahead import COMPUTED, METHODS, STEPS, four_blocks
from tests.tiny import is_same, labels, noise, step_inputs


def reuse_of(method):
    found = capture(four_blocks(), step_inputs(noise(), STEPS[0], labels()))
    return build_steps(found, method).modes["reuse"].moving


@pytest.mark.parametrize(
    ("method", "fusing", "running"),
    [
        (METHODS["predicted"], "", "reads every kept value all the same"),
        (METHODS["int8"], "", ""),  # which are decoded once
        (fc.FreqCa(site="branch", schedule=fc.Table(COMPUTED)), "products of its own", "products of its own"),
        (fc.Method("test", "stack", fc.Table(COMPUTED), fc.Taylor(2)), "too large", "too large"),
    ],
)
def test_nothing_is_made_ahead_where_that_saves_nothing(method, fusing, running):
    moving = reuse_of(method)
    before = moving.text()
    for fuses, reason in ((True, fusing), (False, running)):
        found = look_ahead(moving, fuses=fuses)
        assert isinstance(found, NoMatch) == bool(reason)
        assert not isinstance(found, NoMatch) or reason in found.reason
    assert moving.text() == before


def test_sums_that_read_the_timestep_itself_are_made_step_by_step():
    def moving(x, timestep, a, b, c, d, e, f, g, h):
        for slot in (a, b, c, d, e, f, g, h):
            x = torch.addcmul(x, slot, timestep)
        return x.exp()

    slots = dict.fromkeys("abcdefgh", "slot")
    values = [torch.randn(1, 4, 8) for _ in ("x", *slots)]
    roles: dict[str, Role] = {"x": "sample", "timestep": "timestep", **slots}  # type: ignore[dict-item]
    found = look_ahead(trace(moving, values[0], torch.tensor(5.0), *values[1:], roles=roles), fuses=True)
    assert isinstance(found, NoMatch)
    assert "timestep itself" in found.reason


def test_the_sums_of_several_steps_are_those_of_each_and_every_kept_value_is_read_once():
    ahead = look_ahead(reuse_of(METHODS["predicted"]), fuses=True)
    assert not isinstance(ahead, NoMatch)
    three = ahead.repeated(3)
    three.verify()
    assert len(three.inputs_of("slot")) == len(ahead.sums.inputs_of("slot")) == 24
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
