"""Schedules that compute single sites at a step: what the session plans, and what comes of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import pytest
from torch import Tensor

import fouriercache as fc
from fouriercache.runtime.session import Plan, Session
from fouriercache.schedules import FixedSchedule, Place, SiteSchedule
from tests.runtime.made_up_sampler import Inputs, call_of
from tests.tiny import METHOD, ROUNDING, TIMESTEPS, BruteForce, denoise, distance, is_same, tiny_dit

PLACES = [Place(layer, kind, 16 if kind == "mlp" else 0) for layer in range(2) for kind in ("attention", "mlp")]


@dataclass(frozen=True)
class EachKind(FixedSchedule):
    """Attention every `attention` steps, MLPs every `mlp`; a schedule from outside the package."""

    name: ClassVar[str] = "each kind"
    needs_num_steps: ClassVar[bool] = False

    attention: int
    mlp: int

    def steps(self, num_steps: int | None) -> tuple[int, ...] | None:
        return None if num_steps is None else tuple(s for s in range(num_steps) if self.is_computed(s, num_steps))

    def is_computed(self, step: int, num_steps: int | None) -> bool:
        return step % self.attention == step % self.mlp == 0

    def refreshed(self, step: int, num_steps: int | None, places: Sequence[Place]) -> tuple[int, ...]:
        every = {"attention": self.attention, "mlp": self.mlp}
        return tuple(site for site, place in enumerate(places) if step % every[place.kind] == 0)


class ByKind(BruteForce):
    """The DiT by hand, with each kind of module computed at its own steps."""

    def __init__(self, model: Any, attention: int, mlp: int) -> None:
        super().__init__(model)
        self.every = {True: attention, False: mlp}

    def _branch(self, module: Any, x: Tensor) -> Tensor:
        kept = self.kept.setdefault(module, [])
        if self.step % self.every[hasattr(module, "to_q")] == 0:
            kept[:] = [(self.step, module(x))]
        return kept[0][1]


class LinesByKind(BruteForce):
    """Straight lines through the last two features of each module: attention computed every 4 steps, MLPs every 2."""

    def _branch(self, module: Any, x: Tensor) -> Tensor:
        self.computed = range(0, len(TIMESTEPS), 4 if hasattr(module, "to_q") else 2)
        return super()._branch(module, x)


def plans(session: Session, count: int, places: Sequence[Place] = PLACES) -> list[Plan]:
    """The plans of a trajectory of one pass."""
    found, last = [], None
    for step in range(count):
        inputs = Inputs(900.0 - step, sample=step)
        found.append(session.plan(call_of(inputs, last), places=places))
        session.commit(found[-1])
        last = inputs
    return found


def test_sites_are_computed_at_steps_of_their_own():
    model = tiny_dit()
    fast = fc.optimize(model, fc.FORA(schedule=EachKind(4, 2)), num_steps=len(TIMESTEPS))
    found = denoise(fast)
    assert distance(found, denoise(ByKind(model, 4, 2))) < ROUNDING
    assert distance(found, denoise(ByKind(model, 4, 4))) > 100 * ROUNDING
    assert is_same(denoise(fast), found)
    assert fast.session.computed_steps == {0: (0, 4)}


def test_a_session_plans_which_sites_are_computed():
    assert isinstance(EachKind(4, 2), SiteSchedule)
    found = plans(Session(EachKind(4, 2), fc.Reuse()), 6)
    assert [plan.mode for plan in found] == ["compute", "reuse", "reuse", "reuse", "compute", "reuse"]
    assert [plan.refreshed for plan in found] == [(), (), (1, 3), (), (), ()]
    assert all(plan.coefficients == (((1.0,),),) for plan in found if plan.mode == "reuse")


def test_coefficients_are_those_of_each_sites_own_steps():
    line = fc.Taylor(order=1)
    found = plans(Session(EachKind(4, 2), line), 8)
    attention, mlp = line.coefficients([0, 4], 7), line.coefficients([0, 2, 4, 6], 7)
    assert attention != mlp
    assert found[7].coefficients == ((attention,), (mlp,), (attention,), (mlp,))
    # before a site is computed alone, one row stands for all
    assert len(found[1].coefficients) == 1


@pytest.mark.parametrize("codec", [fc.Dense(), fc.LowPass(1.0), fc.LowPass(1.0, slots="older")], ids=repr)
def test_each_site_is_predicted_from_its_own_steps(codec: Any):
    model = tiny_dit()
    method = METHOD.with_(schedule=EachKind(4, 2), codec=codec)
    found = denoise(fc.optimize(model, method, num_steps=len(TIMESTEPS)))
    assert distance(found, denoise(LinesByKind(model))) < ROUNDING


def test_nothing_is_kept_of_sites_that_are_computed_at_every_step():
    model = tiny_dit()
    method = fc.TaylorSeer(order=1, schedule=fc.PerSite((3, 1, 3, 1)))
    fast = fc.optimize(model, method, num_steps=len(TIMESTEPS))
    found = denoise(fast)
    attention = [site.name for site in fast.report.sites if site.kind == "attention"]
    assert sorted(fast.session.features[0]) == sorted(attention)
    assert fast.cache_bytes == fast.report.cost("h200").cache
    keeps_all = fc.optimize(model, method.with_(schedule=EachKind(3, 1)), num_steps=len(TIMESTEPS))
    assert is_same(found, denoise(keeps_all))
    assert 2 * fast.cache_bytes == keeps_all.cache_bytes


def test_tokens_are_counted_for_sites_that_have_them_and_are_not_computed():
    counts = fc.TopK(fc.Age(), fc.FixedCounts((3, 5)))
    found = plans(Session(EachKind(4, 2), fc.Reuse(), tokens=counts), 4)
    assert [plan.mode for plan in found] == ["compute", "partial", "reuse", "partial"]
    assert [plan.counts for plan in found] == [(), (0, 3, 0, 5), (), (0, 3, 0, 5)]


def test_a_step_that_computes_no_token_is_a_plain_reuse_step():
    found = plans(Session(fc.Tapered(3), fc.Reuse(), num_steps=20, tokens=fc.TopK(fc.Age(), fc.ToCaRatio())), 20)
    modes = [plan.mode for plan in found]
    assert modes[1:4] == ["reuse"] * 3
    assert modes.count("partial") > 5
    assert [plan.position.step for plan in found if plan.mode == "compute"] == list(fc.Tapered(3).steps(20) or ())


def test_a_new_trajectory_begins_with_no_site_computed_alone():
    session = Session(EachKind(4, 2), fc.Taylor(order=1))
    first = plans(session, 8)
    session.reset()
    assert [plan.coefficients for plan in plans(session, 8)] == [plan.coefficients for plan in first]


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda: Session(fc.Interval(3), fc.Taylor(2), tokens=fc.TopK(fc.Age())), "'taylor' reads 3"),
        (
            lambda: Session(fc.Interval(3), fc.Reuse(), tokens=fc.TopK(fc.Age(), fc.ToCaRatio())),
            "depends on the number of steps",
        ),
    ],
)
def test_a_session_refuses_tokens_that_cannot_be_chosen(build: Any, words: str):
    with pytest.raises(fc.MethodError, match=rf"(?s){words}.*\n  where: "):
        build()
