"""What holds for every predictor: targets are checked, constants stay, and each is a value that can be a key."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import FrozenInstanceError
from typing import Any

import pytest

import fouriercache as fc
from fouriercache.errors import MethodError, TrajectoryError
from fouriercache.methods import Method
from fouriercache.predictors import (
    Banded,
    Calibrated,
    Chebyshev,
    Damped,
    Hermite,
    LowPassed,
    Newton,
    Predictor,
    Reuse,
    Taylor,
    TemporalFourier,
)
from fouriercache.schedules import Interval

FITTED = Calibrated((0, 5), ((((1.0,),),),) * 4 + ((((1.5, -0.5),),),))

EVERY: list[Predictor] = [
    Reuse(),
    Taylor(2),
    Hermite(2),
    Chebyshev(num_steps=50),
    Newton(2),
    TemporalFourier(3),
    Damped(Taylor(2), 0.5),
    Banded((0.2, 0.5), (Reuse(), Taylor(1), Hermite(2))),
    LowPassed(Reuse(), 0.25),
    FITTED,
]

names = pytest.mark.parametrize("predictor", EVERY, ids=lambda predictor: predictor.name)


@names
def test_prediction_before_anything_is_computed_is_refused(predictor: Predictor) -> None:
    with pytest.raises(TrajectoryError, match="before the first step is computed"):
        predictor.table([], 0)


@names
@pytest.mark.parametrize(("computed", "step"), [([0, 5], 4), ([0, 3, 3], 4), ([0, 5, 3], 6)])
def test_prediction_that_does_not_go_forward_is_refused(predictor: Predictor, computed: list[int], step: int) -> None:
    with pytest.raises(TrajectoryError, match="goes forward"):
        predictor.table(computed, step)


@names
def test_table_has_a_row_for_each_band_of_at_most_the_history(predictor: Predictor) -> None:
    for step in range(1, 5):
        (site,) = predictor.table([0], step)
        assert len(site) == len(predictor.edges) + 1
        assert all(len(row) == 1 for row in site)
    (site,) = predictor.table([0, 5], 6)
    assert all(1 <= len(row) <= min(2, predictor.history) for row in site)


@names
def test_predictor_of_one_site_says_so(predictor: Predictor) -> None:
    assert (predictor.per_site, predictor.needs_gram) == (False, False)


@names
def test_predictor_is_a_value_that_can_be_a_key(predictor: Predictor) -> None:
    method = Method("mine", "stack", Interval(5), predictor)
    assert eval(repr(predictor), vars(fc)) == predictor
    assert hash(predictor) == hash(eval(repr(predictor), vars(fc)))
    assert {method: 1}[method.with_()] == 1


@pytest.mark.parametrize("predictor", [p for p in EVERY if p.name not in ("reuse", "taylor")], ids=lambda p: p.name)
def test_predictor_cannot_be_changed_in_place(predictor: Predictor) -> None:
    with pytest.raises(FrozenInstanceError):
        predictor.order = 3  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "build",
    [lambda part: Banded((0.2,), (Reuse(), part)), lambda part: LowPassed(part, 0.2), lambda part: Damped(part, 0.2)],
    ids=["Banded", "LowPassed", "Damped"],
)
@pytest.mark.parametrize("part", [Taylor, 3, None, Interval(5)])
def test_what_is_no_predictor_is_refused_as_a_part(build: Callable[[Any], Predictor], part: object) -> None:
    with pytest.raises(MethodError, match=r"needs predictors?.* to be a predictor, got"):
        build(part)
