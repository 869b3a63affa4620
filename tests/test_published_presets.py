"""HiCache, FreqCa and Spectrum are the published methods, answer by answer."""

from __future__ import annotations

from typing import Any

import pytest

from fouriercache.errors import MethodError
from fouriercache.predictors import Banded, Chebyshev, Hermite, Reuse
from fouriercache.presets import FreqCa, HiCache, Spectrum, TaylorSeer
from fouriercache.schedules import Growing, Interval, Table


def test_hicache_is_taylorseer_on_hermite_polynomials() -> None:
    seer = TaylorSeer(6, 2, warmup=3)
    assert HiCache(6, warmup=3) == seer.with_(name="HiCache", predictor=Hermite(2, 0.5, first_difference=2))


def test_freqca_is_the_published_method() -> None:
    method = FreqCa()
    assert (method.site, method.schedule) == ("stack", Interval(6, warmup=3, anchor="first"))
    assert method.predictor == Banded((0.1,), (Reuse(), Hermite(2, 0.71, first_difference=2)))
    assert FreqCa(9).schedule.steps(50) == (0, 1, 2, 11, 20, 29, 38, 47)


def test_freqca_reuses_below_its_edge_and_extrapolates_above() -> None:
    ((low, high),) = FreqCa().predictor.table((0, 1, 2, 8, 14), 17)
    assert low == (1.0,)
    assert high == Hermite(2, 0.71).coefficients((2, 8, 14), 17)


def test_spectrum_is_the_published_method() -> None:
    method = Spectrum()
    assert (method.site, method.schedule) == ("stack", Growing(0.75, 2.0, warmup=5))
    assert method.predictor == Chebyshev(50, degree=4, ridge=0.1, history=14, weight=1.0)


@pytest.mark.parametrize("changes", [{"alpha": 1.0}, {"window": 3.0}, {"warmup": 2}])
def test_spectrum_refuses_gaps_beside_a_schedule(changes: dict[str, Any]) -> None:
    with pytest.raises(MethodError, match="Leave out one of the two"):
        Spectrum(schedule=Table((0, 3)), **changes)
