from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import fouriercache as fc
from fouriercache.calibration.loop import Loop, relative_error
from fouriercache.calibration.progress import Bars
from fouriercache.calibration.record import choose_probes, measure_sensitivity, record, spread
from fouriercache.errors import CalibrationError, MethodError
from tests.calibration.sets import METHOD, STEPS, sampler, timesteps
from tests.tiny import tiny_dit


@pytest.fixture(scope="module")
def model() -> Any:
    return tiny_dit()


def calibrate(model: Any, **changes: Any) -> fc.Calibration:
    given: dict[str, Any] = {
        "num_steps": STEPS,
        "steps": 4,
        "sample": sampler(),
        "probes": 4,
        "trials": 12,
        "progress": False,
    }
    return fc.calibrate(model, METHOD, **given | changes)


@pytest.fixture(scope="module")
def found(model: Any) -> fc.Calibration:
    return calibrate(model)


class Counting:
    """A sampler that counts its runs, and breaks off in the run with a given number."""

    def __init__(self, breaks_at: int | None = None) -> None:
        self.runs = 0
        self._breaks_at = breaks_at
        self._sample = sampler()

    def __call__(self, denoiser: Any) -> Tensor:
        result = self._sample(denoiser)  # asking for the first call ends in here, so it is no run
        self.runs += 1
        if self.runs == self._breaks_at:
            raise KeyboardInterrupt
        return result


def error_of(model: Any, method: fc.Method, sample: Callable[[Any], Tensor], **options: Any) -> float:
    fast = fc.optimize(model, method, **options)
    return relative_error(sample(fast), sample(model))


def test_what_is_found_is_what_the_optimised_module_then_gives(model: Any, found: fc.Calibration):
    assert len(found.steps) == 4
    assert found.timesteps == pytest.approx(timesteps())
    # the same programs and the same table: not a bit may differ
    assert error_of(model, METHOD, sampler(), calibration=found) == found.errors["found"]
    by_hand = METHOD.with_(schedule=fc.Table(found.steps))
    assert error_of(model, by_hand, sampler(), num_steps=STEPS) == found.errors["found"]


def test_each_phase_is_at_least_as_good_as_the_one_before(found: fc.Calibration):
    assert found.errors["found"] <= found.errors["start"] <= found.errors["uniform"]


def test_reports_the_error_of_every_neighbour(model: Any, found: fc.Calibration):
    tables = dict(found.neighbours)
    assert all(sum(abs(a - b) for a, b in zip(table, found.steps, strict=True)) == 1 for table in tables)
    table, error = found.neighbours[0]
    assert error_of(model, METHOD.with_(schedule=fc.Table(table)), sampler(), num_steps=STEPS) == error
    assert found.worst_neighbour == max(tables.values())


def test_refuses_other_timesteps_than_it_was_made_with(model: Any, found: fc.Calibration):
    fast = fc.optimize(model, METHOD, calibration=found)
    with pytest.raises(CalibrationError, match="other timesteps"):
        sampler(count=9)(fast)


def test_goes_on_from_a_checkpoint_to_the_same_answer_and_runs_one_table_twice(
    model: Any, found: fc.Calibration, tmp_path: Path
):
    path = tmp_path / "kept.safetensors"
    broken, rest, nothing = Counting(breaks_at=9), Counting(), Counting()
    with pytest.raises(KeyboardInterrupt):
        calibrate(model, sample=broken, checkpoint=path)
    assert calibrate(model, sample=rest, checkpoint=path) == found
    # the uncached run, one to compare the perturbed ones with and 4 of those; each table but that one's once; and one
    # again, to see that what is kept is of this set
    assert broken.runs - 1 + rest.runs == 1 + 1 + 4 + found.trials - 1 + 1
    assert calibrate(model, sample=nothing, checkpoint=path) == found
    assert nothing.runs == 1

    other = Counting()
    three = calibrate(model, sample=other, checkpoint=path, steps=3, trials=1)
    assert len(three.steps) == 3
    assert other.runs == 1 + 4 + three.trials - 1 + 1  # the uncached run is not made again

    for changes in ({"num_steps": 8}, {"sample": sampler(seed=5)}, {"check_finite": False}):
        with pytest.raises(CalibrationError, match="belongs to another calibration"):
            calibrate(model, checkpoint=path, **changes)


def test_refuses_the_checkpoint_of_a_set_that_only_begins_alike(model: Any, tmp_path: Path):
    def shorter(denoiser: Any) -> Tensor:
        return sampler()(denoiser) * 0.9  # as another guidance weight, it shows in the result alone

    path = tmp_path / "kept.safetensors"
    calibrate(model, checkpoint=path, trials=1)
    for sample in (shorter, sampler(batches=2)):
        with pytest.raises(CalibrationError, match="not the same results of the calibration set"):
            calibrate(model, checkpoint=path, sample=sample)
        with pytest.raises(CalibrationError, match="not the same results of the calibration set"):
            fc.calibrate(
                model, "FORA", num_steps=STEPS, steps=4, sample=sample, checkpoint=path, progress=False
            )  # of whose tables none is kept


def test_refuses_a_checkpoint_that_is_something_else(model: Any, tmp_path: Path):
    path = tmp_path / "kept.safetensors"
    path.write_bytes(b"mine")
    with pytest.raises(CalibrationError, match="not a checkpoint"):
        calibrate(model, checkpoint=path)
    assert path.read_bytes() == b"mine"


def test_several_trajectories_are_one_set(model: Any):
    loop = Loop(model, METHOD, sampler(batches=2), STEPS, {})
    both = record(loop)
    single = [Loop(model, METHOD, sampler(seed=seed), STEPS, {}) for seed in (0, 1)]
    assert single[0].first_call == loop.first_call != single[1].first_call
    assert both.reference.shape == (4, 3, 8, 8)
    assert np.all(np.linalg.eigvalsh(both.gram) > -1e-6 * both.gram.trace())
    assert both.gram[0, 0] > record(single[0]).gram[0, 0]


def test_the_gram_matrix_is_that_of_the_uncached_outputs(model: Any):
    outputs: list[Tensor] = []
    hook = model.register_forward_hook(lambda _, __, output: outputs.append(output.sample.flatten()))
    reference = sampler()(model)
    hook.remove()
    loop = Loop(model, METHOD, sampler(), STEPS, {})
    recording = record(loop)
    stacked = torch.stack(outputs).double()
    assert recording.gram == pytest.approx((stacked @ stacked.T).numpy(), rel=1e-5)
    assert torch.equal(recording.reference, reference)


def test_the_sensitivity_of_the_last_step_is_that_of_the_sampler(model: Any):
    loop = Loop(model, METHOD, sampler(), STEPS, {})
    table = (0, 3, 6)
    # the sampler adds a third of the last output to the result
    assert measure_sensitivity(loop, table, loop.run(table), STEPS - 1) == pytest.approx(1 / 9, rel=1e-4)


def test_sensitivities_are_spread_by_straight_lines_between_logarithms():
    assert spread({1: 1.0, 3: 100.0}, 5) == pytest.approx([1, 1, 10, 100, 100])
    assert np.all(spread({1: 0.0, 3: 1.0}, 5) > 0)
    assert choose_probes(50, 12)[0] == 1
    assert choose_probes(50, 12)[-1] == 49
    assert choose_probes(3, 12) == (1, 2)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"steps": STEPS}, MethodError, "leaves nothing to choose"),
        ({"steps": 0}, MethodError, "steps to be at least 1"),
        ({"num_steps": 1}, MethodError, "num_steps to be at least 2"),
        ({"trials": 0}, MethodError, "trials to be at least 1"),
        ({"start": (0, 2)}, MethodError, "start has 2 steps"),
        ({"num_steps": 12}, CalibrationError, "took 10 steps, and num_steps says 12"),
        ({"fit": True}, MethodError, "needs fit to be a Fit, got True"),
        ({"checkpoint": "/nowhere/kept.safetensors"}, CalibrationError, "is in a folder that is not there"),
        ({"checkpoint": "."}, CalibrationError, "is a folder"),
        ({"sample": None}, CalibrationError, "nothing says how to sample"),
        ({"call": {}}, CalibrationError, "nothing says how to sample"),
        ({"sample": lambda _: torch.zeros(2, 3)}, CalibrationError, "never called the denoiser"),
        ({"sample": lambda denoiser: [sampler()(denoiser)]}, CalibrationError, "floating point tensor"),
        ({"sample": lambda denoiser: sampler()(denoiser) * float("nan")}, CalibrationError, "NaN or inf"),
    ],
)
def test_refuses_what_cannot_be_calibrated(model: Any, changes: dict[str, Any], error: type, message: str):
    with pytest.raises(error, match=message):
        calibrate(model, **changes)


def test_calibrates_steps_of_a_predictor_that_reads_the_features_and_nothing_else(model: Any):
    method = fc.Tuned().with_(predictor=fc.Prony())
    given: dict[str, Any] = {"num_steps": STEPS, "sample": sampler(), "progress": False}
    found = fc.calibrate(model, method, steps=5, probes=2, trials=2, **given)
    assert error_of(model, method, sampler(), calibration=found) == found.errors["found"]
    for changes in ({"fit": fc.Fit()}, {"refine": 1}):
        with pytest.raises(MethodError, match="as they run"):
            fc.calibrate(model, method, **given, **changes)


def test_a_fitted_predictor_has_no_other_steps_to_look_for(model: Any):
    fitted = METHOD.with_(predictor=fc.Calibrated((0, 1), ((((1.0,),),),)))
    with pytest.raises(MethodError, match="fitted for one step table"):
        fc.calibrate(model, fitted, num_steps=3, sample=sampler(), progress=False)


def test_refuses_a_sampler_that_draws_other_noise_each_time(model: Any):
    seeds = iter(range(1000))
    with pytest.raises(CalibrationError, match="begins with other inputs"):
        calibrate(model, sample=lambda denoiser: sampler(seed=next(seeds))(denoiser))


def test_leaves_the_model_as_it_was(model: Any, found: fc.Calibration):
    assert not model._forward_hooks
    assert not model._forward_pre_hooks
    assert all(torch.equal(weight, tiny_dit().state_dict()[name]) for name, weight in model.state_dict().items())


def test_shows_bars_on_stderr_only(capsys: pytest.CaptureFixture[str]):
    for is_shown, expected in ((True, True), (False, False)):
        with Bars(is_shown) as bars:
            bars.begin("search", 3)
            bars.advance("search", "error 0.1")
            bars.end("search")
        shown = capsys.readouterr()
        assert shown.out == ""
        assert ("search" in shown.err) == expected
