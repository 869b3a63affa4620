from __future__ import annotations

from typing import Any

import pytest
import torch

import fouriercache as fc
from fouriercache.calibration.bench import scalars_of
from fouriercache.calibration.loop import Loop, relative_error
from fouriercache.calibration.refine import count_runs, refine, term_scalars, terms_of
from fouriercache.errors import CalibrationError
from fouriercache.predictors import Newton
from tests.calibration.sets import METHOD, STEPS, sampler
from tests.tiny import tiny_dit

TABLE = (0, 1, 4, 7)


@pytest.mark.parametrize(("computed", "step"), [((0, 3), 5), ((0, 3, 7), 8), ((1, 2, 9), 14)])
def test_newest_feature_and_both_terms_are_newtons_prediction(computed: tuple[int, ...], step: int):
    for order in range(1, len(computed)):
        total = [1.0, *(0.0,) * order]
        for degree in range(1, order + 1):
            for age, scalar in enumerate(term_scalars(computed, step, degree)):
                total[age] += scalar
        assert total == pytest.approx(Newton(order).coefficients(computed, step))


def test_a_gap_has_the_terms_that_its_features_allow():
    assert terms_of((0, 2, 3, 6), 9, history=3) == [(3, 1), (3, 2), (6, 1), (6, 2)]
    assert terms_of((0, 1, 4), 5, history=3) == [(1, 1)]
    assert terms_of((0, 1, 4, 7), 10, history=2) == [(1, 1), (4, 1), (7, 1)]
    assert terms_of((0, 1, 4, 7), 10, history=1) == []
    assert count_runs((0, 1, 4, 7), 10, history=2, rounds=2) == 1 + 2 * (3 + 3)


@pytest.fixture(scope="module")
def loop() -> Loop:
    return Loop(tiny_dit(), METHOD, sampler(batches=2), STEPS, {})


def test_refined_scalars_lower_the_final_error_of_the_half_that_judges(loop: Loop):
    reference = loop.run(tuple(range(STEPS)))
    start = scalars_of(METHOD, TABLE, STEPS)
    runs = [0]

    def count() -> None:
        runs[0] += 1

    refined = refine(loop, TABLE, start, reference, rounds=2, on_run=count)
    before, after = loop.run(TABLE), loop.run(TABLE, answers=refined.table)
    assert relative_error(after[1::2], reference[1::2]) < relative_error(before[1::2], reference[1::2])
    assert runs[0] <= count_runs(TABLE, STEPS, start.history, 2)
    assert all(sum(row) == pytest.approx(1) for table in refined.rows for row in table[0])  # a constant stays one


def test_scalars_that_cannot_be_better_are_left_as_they_are(loop: Loop):
    start = scalars_of(METHOD, TABLE, STEPS)
    own = loop.run(TABLE)
    assert refine(loop, TABLE, start, own, rounds=2) == start
    assert refine(loop, TABLE, start, own + 1, rounds=0) == start


def test_calibrate_fits_and_refines_what_it_found_and_the_module_gives_it():
    model: Any = tiny_dit()
    found = fc.calibrate(
        model,
        METHOD,
        num_steps=STEPS,
        steps=TABLE,
        sample=sampler(batches=2),
        fit=fc.Fit(ridge=1e-3),
        refine=1,
        progress=False,
    )
    assert found.steps == TABLE
    assert set(found.errors) == {"uniform", "found", "fitted", "refined"}
    best = min(error for name, error in found.errors.items() if name != "uniform")
    fast = fc.optimize(model, METHOD, calibration=found)
    sample = sampler(batches=2)
    assert relative_error(sample(fast), sample(model)) == best
    assert (found.scalars is None) == (best == found.errors["found"])


def test_refuses_to_refine_on_one_sample():
    def one(denoiser: Any) -> torch.Tensor:
        return sampler()(denoiser)[:1]

    with pytest.raises(CalibrationError, match="at least two samples"):
        fc.calibrate(tiny_dit(), METHOD, num_steps=STEPS, steps=TABLE, sample=one, refine=1, progress=False)
