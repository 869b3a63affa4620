"""Inner products of the kept features: how they are made, how a session keeps them, and what Prony makes of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor

import fouriercache as fc
from fouriercache.codecs import Codec, LowPass, Quantized
from fouriercache.errors import MethodError
from fouriercache.predictors import Coefficients, Grams, Prony
from fouriercache.runtime.gram import inner_products
from fouriercache.runtime.session import Session, StepCall
from tests.tiny import COMPUTED, BruteForce, denoise, distance, labels, noise, step_inputs, tiny_dit


def features(steps: int, dtype: torch.dtype = torch.float32) -> list[dict[str, Tensor]]:
    """Two features a step, each [2, 5, 3]."""
    chance = torch.Generator().manual_seed(0)
    return [{name: torch.randn(2, 5, 3, generator=chance).to(dtype) for name in ("a", "b")} for _ in range(steps)]


def ring_of(older: list[dict[str, Tensor]]) -> dict[str, list[Tensor]]:
    """What steps kept, newest first, by feature."""
    return {name: [values[name] for values in older] for name in ("a", "b")} if older else {}


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_products_are_those_of_the_newest_feature_with_each_kept_one(dtype: torch.dtype) -> None:
    newest, *older = features(3, dtype)
    found = inner_products(newest, ring_of(older), ["b", "a"])
    for row, name in zip(found, ["b", "a"], strict=True):
        wanted = [float((newest[name].double() * kept[name].double()).sum()) for kept in (newest, *older)]
        assert row == pytest.approx(wanted, rel=1e-6)


def test_first_feature_has_a_product_with_itself_alone() -> None:
    (newest,) = features(1)
    ((square,),) = inner_products(newest, {}, ["a"])
    assert square == pytest.approx(float(newest["a"].double().square().sum()), rel=1e-6)


def test_site_whose_feature_is_not_kept_has_products_of_0() -> None:
    newest, *older = features(3)
    assert inner_products(newest, ring_of(older), [None, "b"])[0] == (0.0, 0.0, 0.0)


def test_products_of_large_halves_do_not_overflow() -> None:
    huge = torch.full((4,), 6e4, dtype=torch.float16)
    assert inner_products({"a": huge}, {"a": [huge]}, ["a"])[0] == pytest.approx((4 * 36e8,) * 2, rel=1e-2)


@dataclass(frozen=True)
class Watching(Prony):
    """Prony that keeps what it is asked, to be looked at."""

    def table(self, computed: Any, step: int, grams: Grams = ()) -> Coefficients:
        asked.append((tuple(computed), grams))
        return super().table(computed, step, grams)


asked: list[tuple[tuple[int, ...], Grams]] = []


def call(step: int) -> StepCall:
    return StepCall((float(1000 - step),), None, "form", lambda: False, lambda: True, lambda: True)


def test_session_hands_on_the_whole_matrix_of_what_the_ring_holds() -> None:
    asked.clear()
    kept = features(6)
    session = Session(fc.Table((0, 2, 3, 5, 7, 8)), Watching(1, history=3))
    ring: list[dict[str, Tensor]] = []
    for step in range(10):
        plan = session.plan(call(step))
        if plan.mode == "compute":
            newest = kept[len(ring)]
            session.commit(plan, inner_products(newest, ring_of(ring[:2]), ["a", "b"]))
            ring.insert(0, newest)
        else:
            session.commit(plan)
    assert [computed for computed, _ in asked] == [(0,), (0, 2, 3), (0, 2, 3, 5), (0, 2, 3, 5, 7, 8)]
    for computed, grams in asked:
        newest_first = kept[: len(computed)][::-1][:3]
        for site, gram in zip(("a", "b"), grams, strict=True):
            rows = torch.stack([values[site].flatten() for values in newest_first]).double()
            assert torch.tensor(gram, dtype=torch.float64).allclose(rows @ rows.T, rtol=1e-6, atol=1e-6)


def test_new_trajectory_forgets_the_products_of_the_last() -> None:
    asked.clear()
    session = Session(fc.Table((0,)), Watching(), num_steps=2)
    for value in (1.0, 9.0):
        session.commit(session.plan(call(0)), [[value]])
        session.commit(session.plan(call(1)))
    assert [grams for _, grams in asked] == [(((1.0,),),), (((9.0,),),)]


def test_computed_step_without_products_is_refused() -> None:
    session = Session(fc.Table((0,)), Prony())
    with pytest.raises(MethodError, match="nothing here makes them"):
        session.commit(session.plan(call(0)))


class ByHand(BruteForce):
    """Brute force with Prony at each branch."""

    def _branch(self, module: Any, x: Tensor) -> Tensor:
        kept = self.kept.setdefault(module, [])
        if self.step in self.computed:
            kept.append((self.step, module(x)))
            return kept[-1][1]
        newest_first = [feature for _, feature in kept[::-1][:4]]
        rows = torch.stack([feature.flatten() for feature in newest_first]).double()
        gram = tuple(map(tuple, (rows @ rows.T).tolist()))
        ((row,),) = Prony().table([step for step, _ in kept], self.step, (gram,))
        return sum((c * feature for c, feature in zip(row, newest_first, strict=False)), torch.zeros_like(x))


@pytest.mark.parametrize("computed", [COMPUTED, (0, 2, 4, 6), (0, 1, 2, 3, 5)])
def test_whole_trajectory_is_that_of_brute_force(computed: tuple[int, ...]) -> None:
    model = tiny_dit()
    fast = fc.optimize(model, fc.Method("exponentials", "branch", fc.Table(computed), Prony()))
    # float32 features hold a fit to 1e-7 times its condition number; rows of the wrong site are off by more than 1e-2
    assert distance(denoise(fast), denoise(ByHand(model, computed))) < 1e-4


@pytest.mark.parametrize("codec", [Quantized("int8"), LowPass(0.5, dtype="int8"), LowPass(0.5, slots="older")])
def test_codec_whose_features_cannot_be_multiplied_is_refused(codec: Codec) -> None:
    with pytest.raises(MethodError, match="in a form in which it cannot"):
        fc.Method("exponentials", "stack", fc.Table((0, 2)), Prony(), codec)


@pytest.mark.parametrize("codec", [LowPass(1.0), LowPass(1.0, basis="dft")])
def test_products_of_all_coefficients_are_those_of_the_features(codec: Codec) -> None:
    model = tiny_dit()
    plain = fc.Method("exponentials", "stack", fc.Table((0, 1, 4, 6)), Prony())
    have, want = (denoise(fc.optimize(model, method)) for method in (plain.with_(codec=codec), plain))
    assert distance(have, want) < 1e-4  # as below


def test_request_keeps_its_own_products() -> None:
    model = tiny_dit()
    fast = fc.optimize(model, fc.Method("exponentials", "stack", fc.Table((0, 1, 2, 4)), Prony()))
    alone = denoise(fast.new_session(), x=noise(seed=1))
    one, other = fast.new_session(), fast.new_session()
    mixed: list[Tensor] = []
    x = noise(seed=1)
    with torch.no_grad():
        for timestep, out in zip((900, 800, 700, 600, 500, 400, 300, 200), alone, strict=True):
            other(**step_inputs(noise(seed=timestep), timestep, labels()))
            mixed.append(one(**step_inputs(x, timestep, labels())).sample)
            x = x - out / 8
    assert all(torch.equal(a, b) for a, b in zip(mixed, alone, strict=True))
