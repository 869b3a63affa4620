"""A predictor that is made for trajectories of one length is refused in those of another."""

from __future__ import annotations

import pytest

from fouriercache.errors import MethodError
from fouriercache.predictors import Banded, Calibrated, Chebyshev, Damped, LowPassed, Newton, Predictor, Reuse, Taylor
from fouriercache.runtime.session import Session
from fouriercache.schedules import Table

FOR_3 = Newton(1, (0.0, 1.0, 3.0))
BOUND: list[Predictor] = [
    FOR_3,
    Chebyshev(3),
    Calibrated((0,), ((((1.0,),),), (((1.0,),),))),
    Damped(FOR_3, 0.5),
    LowPassed(FOR_3, 0.5),
    Banded((0.5,), (Reuse(), FOR_3)),
]


@pytest.mark.parametrize("predictor", BOUND, ids=lambda predictor: predictor.name)
def test_trajectory_of_another_length_is_refused(predictor: Predictor) -> None:
    with pytest.raises(MethodError, match="made for trajectories of 3 steps, and these have 4"):
        Session(Table((0,)), predictor, num_steps=4)
    session = Session(Table((0,)), predictor)
    with pytest.raises(MethodError, match=r"Make it for 5 steps.*, or sample in 3"):
        session.prepare([5.0, 4.0, 3.0, 2.0, 1.0])


@pytest.mark.parametrize("predictor", BOUND, ids=lambda predictor: predictor.name)
def test_trajectory_of_its_length_is_served(predictor: Predictor) -> None:
    session = Session(Table((0,)), predictor, num_steps=3)
    session.prepare([3.0, 2.0, 1.0])
    assert session.num_steps == 3


@pytest.mark.parametrize("predictor", [Reuse(), Taylor(1), Newton(1), Banded((0.5,), (Reuse(), Taylor(1)))])
def test_other_predictors_serve_any_length(predictor: Predictor) -> None:
    for num_steps in (None, 1, 50):
        assert Session(Table((0,)), predictor, num_steps=num_steps).num_steps == num_steps


def test_bands_for_trajectories_of_different_lengths_are_refused() -> None:
    with pytest.raises(MethodError, match="made for trajectories of 50 steps, and these have 3"):
        Banded((0.5,), (FOR_3, Chebyshev(50)))


def test_the_preset_that_makes_it_for_a_length_is_named() -> None:
    with pytest.raises(
        MethodError, match=r"Make it for 20 steps, as fc\.Spectrum\(num_steps=20\) does, or sample in 50"
    ):
        Session(Table((0,)), Chebyshev(50), num_steps=20)


def test_more_features_than_there_are_steps_are_refused() -> None:
    with pytest.raises(
        MethodError, match=r"(?s)'taylor' reads up to 10000 computed features.*50 steps.*Lower its order"
    ):
        Session(Table((0,)), Taylor(9999), num_steps=50)
    session = Session(Table((0,)), Taylor(40))
    with pytest.raises(MethodError, match="reads up to 41 computed features, and a trajectory has 3 steps"):
        session.prepare([3.0, 2.0, 1.0])
    Session(Table((0,)), Taylor(15), num_steps=3)
    Session(Table((0,)), Taylor(49), num_steps=50)
