"""Calibrated gives back what was fitted, for the steps it was fitted for and no others."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import fouriercache as fc
from fouriercache.errors import MethodError, TrajectoryError
from fouriercache.predictors import Calibrated, Coefficients, Newton
from fouriercache.schedules import Table
from tests.predictors.series import unhurried

ONE: Coefficients = (((1.0,),),)


@unhurried
@given(st.sets(st.integers(1, 20)), st.integers(1, 3), st.integers(1, 3))
def test_table_of_each_predicted_step_comes_back(later: set[int], sites: int, bands: int) -> None:
    computed = (0, *sorted(later))
    num_steps = computed[-1] + 3
    tables = {
        step: tuple(
            tuple(
                Newton(2).coefficients([done for done in computed if done < step], step + site + band)
                for band in range(bands)
            )
            for site in range(sites)
        )
        for step in range(num_steps)
        if step not in computed
    }
    edges = tuple((band + 1) / bands for band in range(bands - 1))
    fitted = Calibrated(computed, tuple(tables.values()), edges)
    assert fitted.num_steps == num_steps
    assert fitted.per_site == (sites > 1)
    assert fitted.history == min(3, len(computed))
    assert eval(repr(fitted), vars(fc)) == fitted
    for step, table in tables.items():
        assert fitted.table([done for done in computed if done < step], step) == table


def test_other_computed_steps_than_fitted_for_are_refused() -> None:
    fitted = Calibrated((0, 2, 4), (ONE, ONE, ONE))
    assert fitted.table((0, 2), 3) == ONE
    with pytest.raises(TrajectoryError, match=r"At step 3, the steps \(0, 1\) are computed, not \(0, 2\)") as caught:
        fitted.table((0, 1), 3)
    assert "Use schedule=Table((0, 2, 4)) and 6 steps" in str(caught.value)
    with pytest.raises(TrajectoryError, match=r"the steps \(0,\) are computed, not \(0, 2\)"):
        fitted.table((0,), 3)


@pytest.mark.parametrize("step", [4, 6, 99])
def test_step_without_scalars_is_refused(step: int) -> None:
    with pytest.raises(TrajectoryError, match=f"no scalars for step {step}"):
        Calibrated((0, 2, 4), (ONE, ONE, ONE)).table((0, 2), step)


def test_table_with_nothing_to_predict_is_allowed() -> None:
    fitted = Calibrated((0, 1), ())
    assert (fitted.num_steps, fitted.history, fitted.per_site) == (2, 1, False)


def test_schedule_and_scalars_make_a_method() -> None:
    fitted = Calibrated((0, 2), (ONE, ONE))
    method = fc.Method("mine", "stack", Table(fitted.computed), fitted)
    assert eval(repr(method), vars(fc)) == method


@pytest.mark.parametrize("computed", [(), (1, 2), (0, 2, 2), (0, 3, 1), (0, True), (0, 2.0), [0, 2], None])
def test_computed_steps_that_do_not_ascend_from_0_are_refused(computed: Any) -> None:
    with pytest.raises(MethodError, match="computed to be a tuple of ascending steps from 0"):
        Calibrated(computed, (ONE, ONE))


@pytest.mark.parametrize("rows", [(), (ONE,), [ONE, ONE], None])
def test_fewer_tables_than_steps_to_predict_are_refused(rows: Any) -> None:
    with pytest.raises(MethodError, match="one table for each step that is not computed") as caught:
        Calibrated((0, 3), rows)
    assert "Up to step 3 there are 2 steps to predict" in str(caught.value)


@pytest.mark.parametrize(
    ("rows", "fault"),
    [
        ((ONE, (*ONE, *ONE)), "not 1 tuples of bands, one for each site"),
        (((), ()), "one for each site"),
        ((ONE, [((1.0,),)]), "one for each site"),
        ((ONE, (((1.0,), (1.0,)),)), "not 1 rows, one for each band"),
        ((ONE, ([(1.0,)],)), "not 1 rows, one for each band"),
        ((ONE, (((),),)), "not of 1 to 2 scalars"),
        (((((1.0, 0.5),),), ONE), "not of 1 to 1 scalars"),
        ((ONE, (((1.0, 0.5, 0.1),),)), "not of 1 to 2 scalars"),
        ((ONE, (((1,),),)), "a scalar that is no finite float"),
        ((ONE, (((float("nan"),),),)), "a scalar that is no finite float"),
        ((ONE, ((("1.0",),),)), "a scalar that is no finite float"),
    ],
)
def test_table_of_another_form_is_refused(rows: Any, fault: str) -> None:
    with pytest.raises(MethodError, match=fault) as caught:
        Calibrated((0, 2), rows)
    assert "where: Calibrated, step" in str(caught.value)


def test_wrong_edges_are_refused_in_its_own_words() -> None:
    with pytest.raises(MethodError, match="Calibrated needs edges in ascending order"):
        Calibrated((0, 2), (ONE, ONE), (0.5, 0.5))
