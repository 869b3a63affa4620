"""Schedules that decide while the trajectory runs give what brute force gives, and look at no more than they must."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import pytest
import torch
from torch import Tensor

import fouriercache as fc
from fouriercache.runtime import conditioning
from fouriercache.runtime.probe import Probe
from tests.brute_teacache import NOISE, STEPS, THRESHOLD, BruteTeaCache, sea_filtered
from tests.tiny import ROUNDING, TIMESTEPS, denoise, distance, is_same, labels, noise, step_inputs, tiny_dit

NULL = torch.tensor([10, 10])


def measured(session: Any, key: int | str = 0) -> list[float]:
    return [decision.distance for decision in session.decisions[key] if decision.distance is not None]


def computed_by_brute_force(model: Any) -> tuple[int, ...]:
    brute = BruteTeaCache(model)
    denoise(brute)
    return brute.computed


@pytest.fixture(scope="module")
def model() -> Any:
    return tiny_dit()


@pytest.fixture(scope="module")
def fast(model) -> fc.OptimizedModule:
    return fc.optimize(model, fc.TeaCache(THRESHOLD), num_steps=STEPS)


@pytest.fixture(scope="module")
def expected(fast) -> list[Tensor]:
    """A trajectory of a fresh session, bit for bit what every other must give."""
    return denoise(fast.new_session())


def test_reuses_as_brute_force_does(fast, model):
    session, brute = fast.new_session(), BruteTeaCache(model)
    assert distance(denoise(session), denoise(brute)) < ROUNDING
    assert session.computed_steps == {0: brute.computed}
    assert 2 < len(brute.computed) < STEPS
    assert measured(session) == pytest.approx(brute.distances, rel=1e-5)
    assert distance(denoise(model), denoise(fast.new_session())) > 100 * ROUNDING


def test_drives_a_predictor_as_well_as_reuse(model):
    session = fc.optimize(model, fc.TeaCache(THRESHOLD, predictor=fc.Taylor(1)), num_steps=STEPS).new_session()
    brute = BruteTeaCache(model, is_line=True)
    assert distance(denoise(session), denoise(brute)) < ROUNDING
    assert session.computed_steps == {0: brute.computed}
    assert distance(denoise(BruteTeaCache(model)), denoise(BruteTeaCache(model, is_line=True))) > 100 * ROUNDING


def test_seacache_measures_what_is_signal_at_the_step(model):
    fast = fc.optimize(model, fc.SeaCache(0.1, noise=NOISE), num_steps=STEPS)
    brute = BruteTeaCache(model, threshold=0.1, through=sea_filtered)
    assert distance(denoise(fast), denoise(brute)) < ROUNDING
    assert fast.session.computed_steps == {0: brute.computed}
    assert measured(fast.session) == pytest.approx(brute.distances, rel=1e-5)


@pytest.mark.parametrize("site", ["branch", "block"])
def test_decides_alike_whatever_is_cached(model, site):
    """Fed the same latents, the decisions do not depend on the site."""
    fast = fc.optimize(model, fc.TeaCache(THRESHOLD, site=site), num_steps=STEPS)
    brute = BruteTeaCache(model)
    with torch.no_grad():
        for step, timestep in enumerate(TIMESTEPS):
            for one in (fast, brute):
                one(**step_inputs(noise(seed=0) * (1 - step / 20), timestep, labels()))
    assert fast.session.computed_steps == {0: brute.computed}


@pytest.mark.parametrize("is_named", [False, True])
def test_two_passes_of_a_step_decide_for_themselves(fast, model, is_named):
    session, x = fast.new_session(), noise()
    brutes = {"cond": BruteTeaCache(model), "uncond": BruteTeaCache(model)}
    with torch.no_grad():
        for timestep in TIMESTEPS:
            for name, classes in (("uncond", NULL), ("cond", labels())):
                inputs = step_inputs(x, timestep, classes)
                with session.cache_context(name) if is_named else nullcontext():
                    found = session(**inputs).sample
                assert distance([found], [brutes[name](**inputs).sample]) < ROUNDING
            x = x - found / 8
    for key, name in {"cond": "cond", "uncond": "uncond"}.items() if is_named else {1: "cond", 0: "uncond"}.items():
        assert session.computed_steps[key] == brutes[name].computed
        assert measured(session, key) == pytest.approx(brutes[name].distances, rel=1e-5)


def test_one_number_is_read_back_where_the_decision_depends_on_it_and_nowhere_else(fast, monkeypatch):
    read: list[float] = []
    ratio = Probe._ratio

    def read_back(*given: Any) -> float:
        read.append(ratio(*given))
        return read[-1]

    monkeypatch.setattr(Probe, "_ratio", read_back)
    session = fast.new_session()
    denoise(session)
    assert len(read) == STEPS - 2
    assert measured(session) == read


def test_static_schedules_look_at_nothing(model):
    fast = fc.optimize(model, fc.TaylorSeer(3, site="stack"), num_steps=STEPS)
    denoise(fast)
    assert fast._captured().probe is None
    assert fast.session.decisions == {} == fast.report.decisions
    with pytest.raises(fc.PreconditionError, match=r"(?s)no program called 'probe'.*fc.TeaCache\(\)"):
        fast.program("probe")


def test_the_probe_holds_what_the_indicator_needs_and_no_more(fast, expected):
    text = fast.program("probe").text()
    assert "attention" not in text[: text.index("block sites")]
    assert "gelu" not in text
    report = fast.report
    assert report.modes["probe"].flops < 0.2 * report.modes["compute"].flops
    # patches, position, norm, scale, shift; then the change, two absolute values and means, and the pair of them
    assert report.moving["probe"].launches <= 5 + 6


def test_prepared_timesteps_change_no_decision(fast, expected):
    session = fast.new_session()
    session.prepare(TIMESTEPS)
    for _ in range(2):
        assert distance(denoise(session), expected) < ROUNDING
        assert session.computed_steps == {0: computed_by_brute_force(fast.model)}


def test_prepared_conditioning_runs_once_for_each_program(fast, monkeypatch):
    runs: list[Any] = []
    run = conditioning._run

    def run_and_tell(part: Any, named: Any) -> Any:
        runs.append(part)
        return run(part, named)

    monkeypatch.setattr(conditioning, "_run", run_and_tell)
    denoise(fast.new_session())
    without, runs[:] = len(runs), []
    session = fast.new_session()
    session.prepare(TIMESTEPS)
    denoise(session)
    # a context and a batch for compute, reuse and probe; without, a run for each step
    assert len(runs) <= 3 * 2 < without


def test_equal_trajectories_are_equal_bit_for_bit(fast, expected):
    session = fast.new_session()
    for _ in range(3):
        assert is_same(denoise(session), expected)


def test_gradients_flow_through_a_step_that_was_measured(fast):
    session = fast.new_session()
    for timestep in TIMESTEPS[:3]:
        x = noise().requires_grad_()
        session(**step_inputs(x, timestep, labels())).sample.sum().backward()
        assert x.grad is not None
        assert bool(x.grad.abs().sum() > 0)


@pytest.mark.slow
def test_inductor_decides_and_computes_as_eager_does(model, fast, expected):
    compiled = fc.optimize(model, fc.TeaCache(THRESHOLD), num_steps=STEPS, backend="inductor")
    assert distance(denoise(compiled), expected) < 10 * ROUNDING
    assert compiled.session.computed_steps == {0: computed_by_brute_force(model)}
