from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from safetensors.torch import save_file

import fouriercache as fc
from fouriercache.calibrations import Calibration, describe_method
from fouriercache.errors import CalibrationError
from fouriercache.fingerprints import fingerprint_inputs, fingerprint_scheduler, fingerprint_weights
from fouriercache.models.demo import load_demo_scheduler
from fouriercache.predictors import Calibrated
from fouriercache.schedules import Polynomial
from fouriercache.strict_files import parse_json, read_tensors, write_tensors
from tests.calibration.sets import METHOD
from tests.tiny import noise, tiny_dit

MODEL = tiny_dit()
MADE = Calibration(
    method=describe_method(METHOD),
    num_steps=6,
    timesteps=(900.0, 700.5, 500.0, 300.0, 200.0, 1 / 3),
    model=fingerprint_weights(MODEL),
    scheduler="0" * 64,
    steps=(0, 2, 5),
    errors={"uniform": 0.2, "start": 0.1 + 0.2, "found": 1e-17},
    neighbours=(((0, 1, 5), 0.25), ((0, 2, 4), 0.125)),
    trials=7,
    versions={"torch": "2.13"},
)


def rewrite(path: Path, change: Any) -> None:
    """Put other JSON into a calibration file: `change` takes and returns its text."""
    MADE.save(path)
    about, _ = read_tensors(path)
    save_file({}, path, metadata={"fouriercache": change(json.dumps(about))})


def with_values(**values: Any) -> Any:
    return lambda text: json.dumps(json.loads(text) | values)


def test_comes_back_from_its_file_as_it_was(tmp_path: Path):
    MADE.save(tmp_path / "made.safetensors")
    assert Calibration.load(tmp_path / "made.safetensors") == MADE
    MADE.save(str(tmp_path / "made.safetensors"))
    assert Calibration.load(str(tmp_path / "made.safetensors")) == MADE
    assert [path.name for path in tmp_path.iterdir()] == ["made.safetensors"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: text.replace("{", '{"trials": 3, ', 1), "a key stands twice"),
        (lambda text: text.replace("1e-17", "NaN"), "NaN is not a number"),
        (lambda text: text.replace("1e-17", "-Infinity"), "-Infinity is not a number"),
        (lambda text: text.replace("1e-17", "1e999"), "too large for a float"),
        (lambda text: text[:-1], "delimiter"),
        (lambda _: "[" * 100_000, "nested too deeply|Expecting value"),
        (lambda _: "[]", "schema"),
        (with_values(schema="fouriercache.calibration/2"), "schema"),
        (with_values(more=1), r"missing or foreign: \['more'\]"),
        (with_values(steps=[1, 5]), "lacks step 0"),
        (with_values(steps=[0, 9]), "does not have"),
        (with_values(steps=3), "not a list"),
        (with_values(steps=[0, 2.0]), "whole number"),
        (with_values(num_steps=True), "not a count"),
        (with_values(num_steps=7), "6 timesteps"),
        (with_values(timesteps=[1, 2, 3, 4, 5, "6"]), "not a number"),
        (with_values(errors=[1]), "not an object"),
        (with_values(errors={"found": True}), "not a number"),
        (with_values(neighbours=[{"steps": [0]}]), "not steps and an error"),
        (with_values(model=""), "not a text"),
        (with_values(versions=None), "not an object"),
    ],
)
def test_refuses_a_file_whose_content_makes_no_sense(tmp_path: Path, change: Any, message: str):
    rewrite(tmp_path / "made.safetensors", change)
    with pytest.raises(CalibrationError, match=message):
        Calibration.load(tmp_path / "made.safetensors")


FITTED = replace(
    MADE,
    scalars=Calibrated(
        (0, 2, 5),
        (
            (((0.5,), (0.25,)), ((1.0,), (2.0,))),
            (((0.1, 0.2), (1 / 3, 1.0)), ((0.1, -0.2), (1.0, 0.0))),
            (((0.1, 0.2), (0.3, 1.0)), ((0.1, -0.2), (1e-9, 7.0))),
        ),
        edges=(0.25,),
    ),
)
MEASURING = replace(
    MADE, method="x", steps=(), neighbours=(), polynomial=Polynomial((1.0, 0.5), 0.1, 0.3, "clamp"), r_squared=0.9
)


@pytest.mark.parametrize("made", [FITTED, MEASURING])
def test_scalars_and_polynomials_come_back_as_they_were(tmp_path: Path, made: Calibration):
    made.save(tmp_path / "made.safetensors")
    assert Calibration.load(tmp_path / "made.safetensors") == made


def test_scalars_take_the_place_of_the_predictor():
    assert FITTED.apply(METHOD, MODEL, 6).predictor == FITTED.scalars
    assert FITTED.apply(METHOD, MODEL, 6).schedule == fc.Table((0, 2, 5))


def test_a_polynomial_takes_the_place_of_the_one_before():
    tea = fc.TeaCache(0.4)
    made = replace(MEASURING, method=describe_method(tea))
    assert made.polynomial is not None
    found = made.apply(tea, MODEL, 6).schedule
    assert found == replace(cast(fc.Accumulated, tea.schedule), rescale=made.polynomial)
    with pytest.raises(CalibrationError, match="another method"):
        made.apply(fc.TeaCache(0.4, indicator=fc.TimestepEmbedding()), MODEL, 6)
    with pytest.raises(CalibrationError, match="another method"):
        made.apply(fc.FORA(site="stack"), MODEL, 6)


def test_a_calibration_is_of_one_kind():
    with pytest.raises(ValueError, match="one of the two"):
        replace(MADE, polynomial=MEASURING.polynomial)
    with pytest.raises(ValueError, match="one of the two"):
        replace(MADE, steps=())
    with pytest.raises(ValueError, match="other steps"):
        replace(FITTED, steps=(0, 1, 5))


@pytest.mark.parametrize(
    ("scalars", "message"),
    [
        (torch.zeros(2, 1, 1, 2, dtype=torch.float64), "scalars are for 2 steps"),
        (torch.zeros(3, 1, 1, dtype=torch.float64), "not float64 for steps"),
        (torch.zeros(3, 1, 2, 2), "float32"),
        (torch.full((3, 1, 2, 2), float("nan"), dtype=torch.float64), "no finite float"),
    ],
)
def test_refuses_scalars_that_make_no_sense(tmp_path: Path, scalars: torch.Tensor, message: str):
    path = tmp_path / "made.safetensors"
    FITTED.save(path)
    about, _ = read_tensors(path)
    write_tensors(path, about, {"scalars": scalars})
    with pytest.raises(CalibrationError, match=message):
        Calibration.load(path)
    write_tensors(path, about, {})
    with pytest.raises(CalibrationError, match="missing or do not belong"):
        Calibration.load(path)


def test_refuses_what_is_no_calibration_file(tmp_path: Path):
    path = tmp_path / "x.safetensors"
    with pytest.raises(CalibrationError, match="no calibration file"):
        Calibration.load(path)
    with pytest.raises(CalibrationError, match="Is a directory"):
        Calibration.load(tmp_path)
    path.write_bytes(b"\x80\x04K\x01.")  # a pickle
    with pytest.raises(CalibrationError, match="not a safetensors file"):
        Calibration.load(path)
    save_file({"x": torch.zeros(1)}, path)
    with pytest.raises(CalibrationError, match="metadata"):
        Calibration.load(path)
    about = {"schema": "fouriercache.calibration/1", **MADE.as_dict()}
    write_tensors(path, about, {"x": torch.zeros(1)})
    with pytest.raises(CalibrationError, match="do not belong there"):
        Calibration.load(path)


def test_a_file_that_cannot_be_written_leaves_the_old_one(tmp_path: Path):
    path = tmp_path / "made.safetensors"
    MADE.save(path)
    with pytest.raises(ValueError, match="not JSON compliant"):
        replace(MADE, errors={"found": float("nan")}).save(path)
    assert Calibration.load(path) == MADE
    assert len(list(tmp_path.iterdir())) == 1
    with pytest.raises(OSError, match="cannot be written"):
        MADE.save(tmp_path / "nowhere" / "made.safetensors")


def test_optimize_takes_steps_and_their_number_from_a_calibration(tmp_path: Path):
    MADE.save(tmp_path / "made.safetensors")
    for given in (MADE, tmp_path / "made.safetensors", str(tmp_path / "made.safetensors")):
        fast = fc.optimize(MODEL, METHOD, calibration=given)
        assert fast.schedule == (0, 2, 5)
        assert fast.method.predictor == METHOD.predictor


def test_optimize_refuses_a_calibration_that_does_not_belong():
    other = tiny_dit(seed=1)
    with pytest.raises(CalibrationError, match="other weights"):
        fc.optimize(other, METHOD, calibration=MADE)
    with pytest.raises(CalibrationError, match="trajectories of 6 steps, not 50"):
        fc.optimize(MODEL, METHOD, num_steps=50, calibration=MADE)
    with pytest.raises(CalibrationError, match="Taylor"):
        fc.optimize(MODEL, fc.FORA(site="stack"), calibration=MADE)
    with pytest.raises(CalibrationError, match="site='branch'"):
        fc.optimize(MODEL, METHOD.with_(site="branch"), calibration=MADE)


def test_the_schedule_and_name_of_the_method_do_not_matter():
    assert MADE.apply(METHOD.with_(name="mine", schedule=fc.Interval(2)), MODEL, 6).schedule == fc.Table((0, 2, 5))


def test_knows_its_scheduler_by_class_and_options():
    scheduler: Any = load_demo_scheduler()
    same: Any = type(scheduler).from_config(scheduler.config)
    other: Any = type(scheduler).from_config(scheduler.config, timestep_spacing="trailing")
    made = replace(MADE, scheduler=fingerprint_scheduler(scheduler))
    made.check_scheduler(same)
    replace(MADE, scheduler=None).check_scheduler(other)
    with pytest.raises(CalibrationError, match="another scheduler"):
        made.check_scheduler(other)
    with pytest.raises(CalibrationError, match="str is no scheduler of diffusers"):
        made.check_scheduler("ddim")


def test_fingerprints_tell_weights_apart():
    before = fingerprint_weights(MODEL)
    assert fingerprint_weights(tiny_dit()) == before
    changed = tiny_dit()
    with torch.no_grad():
        changed.proj_out_2.bias[3] += 1e-6
    assert fingerprint_weights(changed) != before
    assert fingerprint_weights(tiny_dit().to(torch.bfloat16)) != before
    assert fingerprint_weights(tiny_dit().to("meta")) != before
    assert fingerprint_weights(torch.nn.Linear(100, 100, device="meta"))


def test_fingerprints_tell_inputs_apart():
    x = noise()
    assert fingerprint_inputs((x,), {"a": x}) == fingerprint_inputs((x.clone(),), {"a": x})
    one = torch.tensor(900.0)  # pipelines give a timestep as `t.expand(batch)`, of stride 0 for a batch of 1, too
    assert fingerprint_inputs((one.expand(1),), {}) == fingerprint_inputs((one[None].clone(),), {})
    different = [
        fingerprint_inputs((x,), {}),
        fingerprint_inputs((), {"a": x}),
        fingerprint_inputs((), {"b": x}),
        fingerprint_inputs((x + 1e-6,), {}),
        fingerprint_inputs((x.reshape(-1),), {}),
        fingerprint_inputs((x.half(),), {}),
        fingerprint_inputs((torch.tensor(1.0),), {}),
    ]
    assert len(set(different)) == len(different)


def test_json_is_read_as_the_standard_has_it():
    assert parse_json('{"a": [1, 2.5, null, "x"]}') == {"a": [1, 2.5, None, "x"]}
