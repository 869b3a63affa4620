from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import fouriercache as fc
from fouriercache.calibration.fit import Fit, band_gram, fit_scalars, form_of, solve_ridge, with_energy
from fouriercache.calibration.loop import Loop
from fouriercache.errors import MethodError
from fouriercache.program import TokenGrid
from fouriercache.spectral import band_map, grid_bases, transform
from tests.calibration.sets import METHOD, STEPS, sampler
from tests.tiny import tiny_dit

TABLE = (0, 1, 4, 7)


def gram_of(target: Tensor, history: list[Tensor]) -> Tensor:
    rows = torch.stack([target, *history]).flatten(1)
    return rows @ rows.T


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 4), st.integers(0, 1000))
def test_recovers_known_scalars_from_made_up_features(size: int, seed: int):
    generator = torch.Generator().manual_seed(seed)
    history = list(torch.randn(size, 40, generator=generator, dtype=torch.float64))
    known = torch.randn(size, generator=generator, dtype=torch.float64)
    target = sum(scalar * feature for scalar, feature in zip(known, history, strict=True))
    assert isinstance(target, Tensor)
    start = torch.zeros(size, dtype=torch.float64)
    assert solve_ridge(gram_of(target, history), start, 0.0) == pytest.approx(known, abs=1e-8)


def test_a_large_ridge_leaves_the_scalars_where_they_start_and_a_small_one_does_not():
    history = list(torch.eye(2, 5, dtype=torch.float64))
    gram = gram_of(3 * history[0], history)
    start = torch.tensor([1.0, -1.0], dtype=torch.float64)
    assert solve_ridge(gram, start, 1e9) == pytest.approx([1, -1], abs=1e-6)
    assert solve_ridge(gram, start, 1.0) == pytest.approx([2, -0.5])
    assert solve_ridge(gram, start, 1e-9) == pytest.approx([3, 0], abs=1e-6)


def test_features_that_are_nothing_leave_the_scalars_where_they_start():
    start = torch.tensor([[1.5, -0.5]], dtype=torch.float64)
    assert solve_ridge(torch.zeros(1, 3, 3, dtype=torch.float64), start, 1e-5)[0] == pytest.approx([1.5, -0.5])


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 4), st.integers(0, 1000))
def test_kept_energy_is_that_of_the_target_and_changes_no_direction(size: int, seed: int):
    generator = torch.Generator().manual_seed(seed)
    target, *history = torch.randn(size + 1, 40, generator=generator, dtype=torch.float64)
    fitted = solve_ridge(gram_of(target, history), torch.zeros(size, dtype=torch.float64), 0.0)
    scaled = with_energy(gram_of(target, history), fitted)
    assert (scaled @ torch.stack(history)).norm() == pytest.approx(float(target.norm()))
    assert (fitted @ torch.stack(history)).norm() < target.norm()  # what least squares leaves out
    assert torch.allclose(scaled / scaled.norm(), fitted / fitted.norm())


def test_features_of_no_energy_leave_the_scalars_as_they_are():
    scalars = torch.tensor([[1.5, -0.5]], dtype=torch.float64)
    assert torch.equal(with_energy(torch.zeros(1, 3, 3, dtype=torch.float64), scalars), scalars)


def test_bands_have_the_scalars_of_their_own_features():
    grid = TokenGrid(1, 4, 6)
    edges = (0.3, 0.6)
    generator = torch.Generator().manual_seed(0)
    old, new = torch.randn(2, 2, 24, 3, generator=generator)
    bases = [basis.float() for basis in grid_bases((1, 4, 6))]
    bands = band_map((1, 4, 6), edges).flatten()
    scalars = torch.tensor([[2.0, -1.0], [1.0, 0.5], [0.0, 0.25]])
    spectrum = scalars[bands, 0, None] * transform(new, bases) + scalars[bands, 1, None] * transform(old, bases)
    target = transform(spectrum, [basis.T for basis in bases])
    gram = band_gram([target, new, old], edges, grid)
    found = solve_ridge(gram, torch.zeros(3, 2, dtype=torch.float64), 0.0)
    assert found.flatten().tolist() == pytest.approx(scalars.flatten().tolist(), abs=1e-4)


def test_bands_share_out_all_inner_products():
    features = list(torch.randn(3, 2, 26, 3, generator=torch.Generator().manual_seed(0)))
    whole = band_gram(features, (), None)[0]
    for grid in (TokenGrid(1, 4, 6, start=1), TokenGrid(1, 2, 13), TokenGrid(1, 8, 8), None):
        assert band_gram(features, (0.4,), grid).sum(0) == pytest.approx(whole.numpy(), abs=1e-3)
    assert torch.count_nonzero(band_gram(features, (0.4,), TokenGrid(1, 8, 8))[1]) == 0  # it is not on that grid


def test_bands_of_frames_sum_what_each_frame_has():
    features = list(torch.randn(2, 3, 24, 5, generator=torch.Generator().manual_seed(0)))
    whole = band_gram(features, (0.4,), TokenGrid(4, 2, 3), "frame_dct")
    frames = [[feature[:, 6 * f : 6 * f + 6] for feature in features] for f in range(4)]
    parts = sum(band_gram(frame, (0.4,), TokenGrid(1, 2, 3)) for frame in frames)
    torch.testing.assert_close(whole, parts, rtol=1e-5, atol=1e-5)
    assert not torch.allclose(whole, band_gram(features, (0.4,), TokenGrid(4, 2, 3)))


@pytest.fixture(scope="module")
def model() -> Any:
    return tiny_dit()


@pytest.fixture(scope="module")
def loop(model: Any) -> Loop:
    return Loop(model, METHOD, sampler(batches=2), STEPS, {})


def features_of(model: Any, batches: int) -> list[list[Tensor]]:
    """The stack's residual at every step of each uncached trajectory, float64."""
    fast = fc.optimize(model, METHOD.with_(schedule=fc.Interval(1)), num_steps=STEPS)
    found: list[list[Tensor]] = []

    def keep(*_: Any) -> None:
        position = fast.session.position
        assert position is not None
        if position.step == 0:
            found.append([])
        (values,) = fast.session.features.values()
        found[-1] += [value.flatten().double() for value in values.values()]

    hook = fast.register_forward_hook(keep)
    sampler(batches=batches)(fast)
    hook.remove()
    return found


def test_fits_the_features_of_all_uncached_trajectories_by_least_squares(model: Any, loop: Loop):
    fitted = fit_scalars(model, METHOD, loop, TABLE, Fit(on_policy=False, ridge=0.0))
    assert (fitted.computed, fitted.num_steps) == (TABLE, STEPS)
    features = features_of(model, batches=2)
    for step in (2, 3, 5, 6, 8, 9):
        newest = [done for done in reversed(TABLE) if done < step][:2]
        history = torch.cat([torch.stack([one[done] for done in newest], dim=1) for one in features])
        target = torch.cat([one[step] for one in features])
        expected = torch.linalg.lstsq(history, target).solution
        assert fitted.table([done for done in TABLE if done < step], step)[0][0] == pytest.approx(expected, abs=1e-3)


def test_kept_energy_makes_fitted_scalars_larger_by_one_factor_a_step(model: Any, loop: Loop):
    plain, scaled = (
        fit_scalars(model, METHOD, loop, TABLE, Fit(on_policy=False, ridge=0.0, keep_energy=keep))
        for keep in (False, True)
    )
    for before, after in zip(plain.rows, scaled.rows, strict=True):
        factors = [new / old for old, new in zip(before[0][0], after[0][0], strict=True)]
        assert factors == pytest.approx([factors[0]] * len(factors))
        assert factors[0] > 1


def test_fits_along_the_cached_trajectory_step_by_step(model: Any, loop: Loop):
    away = fit_scalars(model, METHOD, loop, TABLE, Fit(on_policy=False))
    along = fit_scalars(model, METHOD, loop, TABLE, Fit())
    # up to the first predicted step the trajectories are the same, and later ones differ
    assert along.rows[0][0][0] == pytest.approx(away.rows[0][0][0], abs=1e-4)
    assert along.rows[-1][0][0] != pytest.approx(away.rows[-1][0][0], abs=1e-4)


def test_other_scalars_hold_for_one_run_only(model: Any, loop: Loop):
    own = loop.run(TABLE)
    fitted = fit_scalars(model, METHOD, loop, TABLE, Fit())
    assert not torch.equal(loop.run(TABLE, answers=fitted.table), own)
    assert torch.equal(loop.run(TABLE), own)


@pytest.mark.parametrize("site", ["stack", "branch"])
def test_scalars_by_band_and_site_are_what_the_optimised_module_then_uses(model: Any, site: str):
    method = METHOD.with_(site=site)
    fit = Fit(edges=(0.3, 0.6), per_site=True)
    loop = Loop(model, form_of(method, fit), sampler(batches=2), STEPS, {})
    fitted = fit_scalars(model, method, loop, TABLE, fit)
    sites = 1 if site == "stack" else 4
    assert [len(fitted.rows[0]), len(fitted.rows[0][0])] == [sites, 3]
    assert len({row for table in fitted.rows for of_site in table for row in of_site}) == 6 * 3 * sites
    fast = fc.optimize(model, method.with_(schedule=fc.Table(TABLE), predictor=fitted), num_steps=STEPS)
    assert torch.equal(sampler(batches=2)(fast), loop.run(TABLE, answers=fitted.table))


def test_an_endless_ridge_gives_the_predictor_itself(model: Any, loop: Loop):
    fitted = fit_scalars(model, METHOD, loop, TABLE, Fit(ridge=1e12))
    for step, table in zip((2, 3, 5, 6, 8, 9), fitted.rows, strict=True):
        before = [done for done in TABLE if done < step]
        assert table[0][0] == pytest.approx(METHOD.predictor.table(before, step)[0][0], abs=1e-6)


def test_the_form_of_a_fit_has_a_row_for_each_band():
    assert form_of(METHOD, Fit()) is METHOD
    form = form_of(METHOD, Fit(edges=(0.2, 0.5))).predictor
    assert form.edges == (0.2, 0.5)
    assert form.history == METHOD.predictor.history
    assert form.table((0, 1), 3) == ((METHOD.predictor.table((0, 1), 3)[0][0],) * 3,)


@pytest.mark.parametrize("values", [{"edges": (0.5, 0.2)}, {"edges": (1.5,)}, {"ridge": -1.0}])
def test_refuses_a_fit_that_makes_no_sense(values: dict[str, Any]):
    with pytest.raises(MethodError):
        Fit(**values)
