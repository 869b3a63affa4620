"""Banded, Damped and LowPassed put rows of other predictors together."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fouriercache.errors import MethodError
from fouriercache.predictors import Banded, Calibrated, Damped, Hermite, LowPassed, Predictor, Reuse, Taylor
from tests.predictors.series import moments, unhurried


def fitted_for_sites(*scalars: float) -> Calibrated:
    return Calibrated((0,), (tuple(((scalar,),) for scalar in scalars),))


def test_each_band_has_the_row_of_its_own_predictor() -> None:
    banded = Banded((0.1, 0.4), (Reuse(), Hermite(2, 0.71), Taylor(1)))
    (site,) = banded.table((0, 4, 8), 10)
    assert site == (
        (1.0,),
        Hermite(2, 0.71).coefficients((0, 4, 8), 10),
        Taylor(1).coefficients((0, 4, 8), 10),
    )
    assert (banded.history, banded.edges) == (3, (0.1, 0.4))


def test_banded_without_edges_is_its_one_predictor() -> None:
    assert Banded((), (Taylor(2),)).table((0, 4, 8), 10) == Taylor(2).table((0, 4, 8), 10)


def test_band_that_tells_sites_apart_spreads_to_the_others() -> None:
    banded = Banded((0.5,), (fitted_for_sites(0.9, 0.8), Reuse()))
    assert banded.per_site
    assert banded.table((0,), 1) == (((0.9,), (1.0,)), ((0.8,), (1.0,)))


def test_bands_for_different_numbers_of_sites_are_refused() -> None:
    banded = Banded((0.5,), (fitted_for_sites(0.9, 0.8), fitted_for_sites(0.9, 0.8, 0.7)))
    with pytest.raises(MethodError, match=r"different numbers of sites: \[2, 3\]"):
        banded.table((0,), 1)


@unhurried
@given(moments(), st.integers(0, 3), st.floats(0, 3))
def test_damped_scales_what_is_added_to_the_newest_feature(
    moment: tuple[int, tuple[int, ...], int], order: int, factor: float
) -> None:
    _, computed, step = moment
    whole = Taylor(order).coefficients(computed, step)
    (((newest, *older),),) = Damped(Taylor(order), factor).table(computed, step)
    assert newest - 1 == pytest.approx(factor * (whole[0] - 1), rel=1e-12, abs=1e-12 * (1 + factor))
    assert older == pytest.approx([factor * scalar for scalar in whole[1:]], rel=1e-15)


def test_damped_by_1_changes_nothing_and_by_0_reuses() -> None:
    assert Damped(Taylor(2), 1).table((0, 4, 8), 10) == Taylor(2).table((0, 4, 8), 10)
    assert Damped(Taylor(2), 0).table((0, 4, 8), 10) == (((1, 0, 0),),)


def test_damped_keeps_bands_and_sites_of_its_predictor() -> None:
    banded = Banded((0.5,), (fitted_for_sites(2.0, 3.0), Reuse()))
    damped = Damped(banded, 0.5)
    assert (damped.edges, damped.history, damped.per_site) == ((0.5,), 1, True)
    assert damped.table((0,), 1) == (((1.5,), (1.0,)), ((2.0,), (1.0,)))


def test_low_passed_has_no_high_band() -> None:
    low = LowPassed(Taylor(1), 0.25)
    assert low.table((0, 4), 6) == (((1.5, -0.5), (0.0, 0.0)),)
    assert (low.edges, low.history, low.per_site) == ((0.25,), 2, False)
    assert LowPassed(fitted_for_sites(0.9, 0.8), 0.25).table((0,), 1) == (((0.9,), (0.0,)), ((0.8,), (0.0,)))


@pytest.mark.parametrize("edges", [(0.0,), (1.0,), (-0.1,), (1,), (float("nan"),), ("0.1",)])
def test_edge_outside_0_to_1_is_refused(edges: Any) -> None:
    with pytest.raises(MethodError, match="Banded needs every edge to be a float above 0 and below 1"):
        Banded(edges, (Reuse(), Reuse()))


@pytest.mark.parametrize("edges", [(0.2, 0.2), (0.5, 0.2)])
def test_edges_out_of_order_are_refused(edges: tuple[float, ...]) -> None:
    with pytest.raises(MethodError, match="Banded needs edges in ascending order"):
        Banded(edges, (Reuse(),) * 3)


@pytest.mark.parametrize("edges", [[0.2], 0.2, None])
def test_edges_that_are_no_tuple_are_refused(edges: Any) -> None:
    with pytest.raises(MethodError, match="Banded needs edges to be a tuple"):
        Banded(edges, (Reuse(), Reuse()))


@pytest.mark.parametrize("predictors", [(), (Reuse(),), (Reuse(),) * 3, [Reuse(), Reuse()], Reuse()])
def test_other_number_of_predictors_than_bands_is_refused(predictors: Any) -> None:
    with pytest.raises(MethodError, match="Banded needs a tuple of 2 predictors, one for each band"):
        Banded((0.2,), predictors)


@pytest.mark.parametrize("member", [LowPassed(Reuse(), 0.5), Banded((0.3,), (Reuse(), Reuse()))])
def test_predictor_with_bands_of_its_own_is_refused_as_a_band(member: Predictor) -> None:
    with pytest.raises(MethodError, match=r"predictors\[1\] to have 1 band"):
        Banded((0.2,), (Reuse(), member))
    with pytest.raises(MethodError, match="predictor to have 1 band"):
        LowPassed(member, 0.2)


@pytest.mark.parametrize("factor", [-0.1, float("inf"), float("nan"), "1", None, True])
def test_wrong_factor_is_refused(factor: Any) -> None:
    with pytest.raises(MethodError, match="Damped needs factor to be"):
        Damped(Reuse(), factor)


@pytest.mark.parametrize("edge", [0.0, 1.0, 1, None])
def test_wrong_edge_of_a_low_pass_is_refused(edge: Any) -> None:
    with pytest.raises(MethodError, match="LowPassed needs every edge"):
        LowPassed(Reuse(), edge)
