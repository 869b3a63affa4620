"""The accumulated schedule against the published rule, written down a second time as the published code counts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fouriercache as fc
from fouriercache.indicators import Indicator, Modulated
from fouriercache.presets.published_polynomials import PUBLISHED_POLYNOMIALS
from fouriercache.schedules import Accumulated, Decision, Polynomial, Schedule

FLUX = PUBLISHED_POLYNOMIALS["FLUX.1-dev"].polynomial


def decide_all(schedule: Accumulated, distances: Sequence[float]) -> list[Decision]:
    """Decide a whole trajectory; the distance of its first step is never asked for."""
    decisions = [Decision(0, is_computed=True)]
    for step in range(1, len(distances)):
        decisions.append(schedule.decide(step, len(distances), decisions[-1], lambda step=step: distances[step]))  # type: ignore[misc]
    return decisions


def published(distances: Sequence[float], coefficients: Sequence[float], threshold: float) -> list[tuple[bool, float]]:
    """TeaCache4FLUX/teacache_flux.py, with its names."""
    accumulated_rel_l1_distance, num_steps = 0.0, len(distances)
    found = []
    for cnt, distance in enumerate(distances):
        if cnt == 0 or cnt == num_steps - 1:
            should_calc = True
            accumulated_rel_l1_distance = 0.0
        else:
            rescale_func = np.poly1d(coefficients)
            accumulated_rel_l1_distance += max(rescale_func(distance), 0.0)  # there without max: it may take away
            if accumulated_rel_l1_distance < threshold:
                should_calc = False
            else:
                should_calc = True
                accumulated_rel_l1_distance = 0.0
        found.append((should_calc, accumulated_rel_l1_distance))
    return found


distances = st.lists(st.floats(0, 2), min_size=1, max_size=40)


@pytest.mark.filterwarnings("ignore::fouriercache.errors.NegativeChangeWarning")
@given(distances, st.sampled_from(list(PUBLISHED_POLYNOMIALS.values())), st.floats(0, 1))
def test_every_trajectory_is_decided_as_the_published_code_decides_it(measured, row, threshold):
    schedule = Accumulated(threshold=threshold, rescale=row.polynomial)
    have = [(decision.is_computed, decision.accumulated) for decision in decide_all(schedule, measured)]
    assert have == published(measured, row.coefficients, threshold)


@given(distances, st.integers(1, 4), st.integers(0, 4), st.integers(1, 3))
def test_ends_are_computed_without_a_look_and_skips_are_bounded(measured, first, last, max_skips):
    schedule = Accumulated(threshold=0.5, first=first, last=last, max_skips=max_skips)
    decisions = decide_all(schedule, measured)
    asked = [decision.step for decision in decisions if decision.distance is not None]
    assert asked == [step for step in range(len(measured)) if first <= step < len(measured) - last]
    run = 0
    for decision in decisions:
        run = 0 if decision.is_computed else run + 1
        assert decision.skipped == run <= max_skips
    assert all(decision.is_computed for decision in decisions if decision.step not in asked)


def test_what_has_come_together_begins_again_at_a_computed_step():
    decisions = decide_all(Accumulated(threshold=0.25), [0.0, 0.1, 0.1, 0.1, 0.1, 0.1])
    assert [decision.is_computed for decision in decisions] == [True, False, False, True, False, True]
    assert [decision.accumulated for decision in decisions] == pytest.approx([0, 0.1, 0.2, 0, 0.1, 0])


def test_a_threshold_of_zero_computes_every_step():
    assert all(decision.is_computed for decision in decide_all(Accumulated(threshold=0), [0.0] * 5))


def test_a_negative_change_counts_as_none_with_a_warning_and_is_a_fact_of_its_decision():
    less = Polynomial((1.0, -0.5))
    with pytest.warns(fc.NegativeChangeWarning, match=r"(?s)below 0.*coefficients=\(1\.0, -0\.5\).*very model"):
        assert less.rescale(0.1) == (0.0, True)
    with pytest.warns(fc.NegativeChangeWarning):
        decisions = decide_all(Accumulated(threshold=0.1, rescale=less), [0.0, 0.1, 0.55, 0.9, 0.0])
    assert [decision.accumulated for decision in decisions] == pytest.approx([0, 0, 0.05, 0, 0])
    assert [decision.is_clamped for decision in decisions] == [False, True, False, False, False]
    assert [decision.is_computed for decision in decisions] == [True, False, False, True, True]


def test_the_polynomial_of_another_model_does_not_run_away():
    wan = PUBLISHED_POLYNOMIALS["Wan2.1-T2V-14B"].polynomial
    with pytest.warns(fc.NegativeChangeWarning):
        decisions = decide_all(Accumulated(threshold=0.3, rescale=wan), [0.0, *[0.02] * 20])
    assert min(decision.accumulated for decision in decisions) == 0


def test_a_polynomial_is_evaluated_as_numpy_does():
    for distance in (0.0, 0.03, 0.4, 7.0):
        assert FLUX.rescale(distance).value == float(np.poly1d(FLUX.coefficients)(distance))


def test_a_fitted_polynomial_refuses_what_it_was_not_fitted_on():
    fitted = Polynomial((2.0, 0.0), low=0.1, high=0.3)
    assert fitted.rescale(0.3) == (0.6, False)
    for distance in (0.09, 0.31):
        with pytest.raises(fc.TrajectoryError, match=r'(?s)outside the range.*0\.1 to 0\.3.*outside="clamp"'):
            fitted.rescale(distance)
    with pytest.raises(fc.TrajectoryError, match="outside the range"):
        decide_all(Accumulated(threshold=1.0, rescale=fitted), [0.0, 0.5, 0.2])


def test_a_clamped_distance_is_a_fact_of_its_decision():
    fitted = Polynomial((2.0, 0.0), low=0.1, high=0.3, outside="clamp")
    decisions = decide_all(Accumulated(threshold=1.0, rescale=fitted), [0.0, 0.5, 0.2, 0.01, 0.0])
    assert [decision.is_clamped for decision in decisions] == [False, True, False, True, False]
    assert [decision.accumulated for decision in decisions] == pytest.approx([0, 0.6, 0, 0.2, 0])
    assert [decision.distance for decision in decisions] == [None, 0.5, 0.2, 0.01, None]


def test_its_steps_cannot_be_listed():
    assert Accumulated().steps(50) is None
    assert Accumulated().steps(None) is None
    assert isinstance(Accumulated(), Schedule)
    assert (Accumulated().needs_num_steps, Accumulated(last=0).needs_num_steps) == (True, False)


def test_last_steps_need_the_number_of_steps():
    with pytest.raises(fc.MethodError, match=r"(?s)which they are is not known.*num_steps= to optimize, or last=0"):
        Accumulated().decide(3, None, Decision(2, True), lambda: 0.1)
    assert Accumulated(last=0).decide(3, None, Decision(2, True), lambda: 0.1) == Decision(3, False, 0.1, 0.1, 1)


@pytest.mark.parametrize("step", [-1, 10])
def test_a_step_outside_the_trajectory_is_refused(step: int):
    with pytest.raises(fc.TrajectoryError, match=f"Step {step} is not in a trajectory of 10 steps"):
        Accumulated().decide(step, 10, Decision(0, True), lambda: 0.1)


@pytest.mark.parametrize(
    ("fields", "fault"),
    [
        ({"threshold": -0.1}, "threshold to be finite and at least 0.0"),
        ({"threshold": float("nan")}, "threshold to be finite"),
        ({"threshold": "0.2"}, "threshold to be a number"),
        ({"threshold": True}, "threshold to be a number"),
        ({"first": 0}, "first to be at least 1"),
        ({"last": -1}, "last to be at least 0"),
        ({"max_skips": 0}, "max_skips to be at least 1"),
        ({"indicator": Modulated}, "needs an indicator, got <class"),
        ({"indicator": 0.3}, "needs an indicator, got 0.3"),
        ({"rescale": (1.0, 0.0)}, "needs a polynomial, got"),
    ],
)
def test_fields_that_make_no_sense_are_refused(fields: dict[str, Any], fault: str):
    with pytest.raises(fc.MethodError, match=f"Accumulated needs.*{fault}|Accumulated {fault}"):
        Accumulated(**fields)


@pytest.mark.parametrize(
    ("fields", "fault"),
    [
        ({"coefficients": ()}, "needs a list of coefficients"),
        ({"coefficients": 3.0}, "needs a list of coefficients"),
        ({"coefficients": "12"}, "needs a list of coefficients"),
        ({"coefficients": (1.0, float("inf"))}, r"coefficients\[1\] to be finite"),
        ({"coefficients": (1.0,), "low": 0.3, "high": 0.1}, "ends before it begins"),
        ({"coefficients": (1.0,), "low": float("nan")}, "low to be finite"),
        ({"coefficients": (1.0,), "outside": "extend"}, "does not know outside 'extend'"),
    ],
)
def test_polynomials_that_make_no_sense_are_refused(fields: dict[str, Any], fault: str):
    with pytest.raises(fc.MethodError, match=f"Polynomial.*{fault}"):
        Polynomial(**fields)


def test_an_accumulated_method_is_a_value_that_its_text_builds_again():
    for method in (fc.TeaCache(0.3, "Wan2.1-T2V-14B-ret"), fc.SeaCache(0.3, beta=3.0, noise=fc.DDPM([0.9, 0.5, 0.1]))):
        assert eval(repr(method), vars(fc)) == method
        assert hash(eval(repr(method), vars(fc))) == hash(method)


def test_a_list_of_coefficients_is_kept_as_a_tuple():
    assert Polynomial([1, 0]) == Polynomial((1.0, 0.0))  # type: ignore[arg-type]


def test_teacache_brings_what_the_coefficients_were_published_with():
    flux, wan = fc.TeaCache(0.4, "FLUX.1-dev"), fc.TeaCache(0.2, "Wan2.1-T2V-14B-ret")
    assert (flux.site, flux.predictor) == ("stack", fc.Reuse())
    assert flux.schedule == Accumulated(Modulated(), 0.4, FLUX)
    assert wan.schedule.indicator == fc.TimestepEmbedding(projected=True)
    assert isinstance(wan.schedule, Accumulated)
    assert (wan.schedule.first, wan.schedule.last) == (5, 0)


def test_teacache_takes_other_answers_than_the_published_ones():
    mine = Polynomial((1.5, 0.1), low=0.0, high=0.5)
    method = fc.TeaCache(0.4, mine, indicator=fc.Latents(), first=3, last=0, max_skips=2, predictor=fc.Taylor(1))
    assert method.schedule == Accumulated(fc.Latents(), 0.4, mine, first=3, last=0, max_skips=2)
    assert method.predictor == fc.Taylor(1)


def test_teacache_without_coefficients_accumulates_the_bare_change():
    schedule = fc.TeaCache(0.4).schedule
    assert isinstance(schedule, Accumulated)
    assert schedule.rescale.rescale(0.37) == (0.37, False)


def test_teacache_refuses_a_name_that_was_never_published():
    with pytest.raises(fc.MethodError, match=r"(?s)no coefficients 'flux.1-dev'.*Did you mean 'FLUX.1-dev'"):
        fc.TeaCache(0.4, "flux.1-dev")
    with pytest.raises(fc.MethodError, match="a Polynomial, or None"):
        fc.TeaCache(0.4, [1.0, 0.0])  # type: ignore[arg-type]


def test_every_published_polynomial_has_degree_four_and_an_indicator():
    assert len(PUBLISHED_POLYNOMIALS) == 27
    for row in PUBLISHED_POLYNOMIALS.values():
        assert len(row.coefficients) == 5
        assert isinstance(row.indicator, Indicator)
