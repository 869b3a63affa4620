"""`Calibration`: what was measured for one model, one method and one sampler, and its file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from math import isfinite
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from fouriercache.errors import CalibrationError, MethodError
from fouriercache.fingerprints import fingerprint_scheduler, fingerprint_weights
from fouriercache.methods import Method
from fouriercache.paths import path_of
from fouriercache.predictors import Calibrated
from fouriercache.schedules import Polynomial, Table
from fouriercache.strict_files import read_tensors, write_tensors

_SCHEMA = "fouriercache.calibration/1"


@dataclass(frozen=True)
class Calibration:
    """What `fouriercache.calibrate` found; `optimize(..., calibration=)` takes it, or its file.

    Attributes:
        method: site, predictor, codec and tokens it was made for, as text; see `describe_method`.
        num_steps: denoising steps of a trajectory.
        timesteps: the trajectory's timesteps as the model receives them.
        model: fingerprint of the model's weights.
        scheduler: fingerprint of the sampler's scheduler, None if it was not known.
        steps: the computed steps; () where a polynomial was fitted.
        scalars: what predicts the other steps in the place of the method's predictor; None to keep that.
        polynomial: what an accumulated schedule rescales with, and the range that it was fitted on; None for steps.
        r_squared: the share of the output changes' variance that the polynomial explains.
        errors: mean relative L2 error of the final result against the uncached one, over the calibration set: of the
            evenly spaced table ("uniform"), of the best one before the search ("start"), of `steps` ("found"), of
            `steps` with fitted scalars ("fitted").
        neighbours: every table that differs from `steps` in one step by one, with its error.
        trials: how many tables were tried.
        versions: of the packages it was made with.
    """

    method: str
    num_steps: int
    timesteps: tuple[float, ...]
    model: str
    scheduler: str | None
    steps: tuple[int, ...] = ()
    scalars: Calibrated | None = None
    polynomial: Polynomial | None = None
    r_squared: float | None = None
    errors: Mapping[str, float] = field(default_factory=dict)
    neighbours: tuple[tuple[tuple[int, ...], float], ...] = ()
    trials: int = 0
    versions: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if bool(self.steps) == (self.polynomial is not None):
            raise ValueError("a calibration has steps or a polynomial, one of the two")
        if self.scalars is not None and (self.scalars.computed, self.scalars.num_steps) != (self.steps, self.num_steps):
            raise ValueError("the scalars were fitted for other steps than the calibration's")

    @property
    def worst_neighbour(self) -> float | None:
        """The largest error among the neighbours; None if there are none."""
        return max((error for _, error in self.neighbours), default=None)

    def apply(self, method: Method, model: nn.Module, num_steps: int | None) -> Method:
        """Return `method` with what was calibrated in the place of its own.

        Raises CalibrationError when the calibration was made for another method, model, or number of steps.
        """
        calibrated = self.calibrated(method, num_steps)
        self.check_model(model)
        return calibrated

    def calibrated(self, method: Method, num_steps: int | None) -> Method:
        """Return what `apply` does, without a look at the model.

        Raises CalibrationError when the calibration was made for another method or number of steps.
        """
        wanted = describe_method(method)
        if wanted != self.method:
            raise CalibrationError(
                f"The calibration was made for another method.\n  made for: {self.method}\n  used with: {wanted}\n"
                "  Calibrate this method, or pass the one it was made for; its schedule does not matter."
            )
        if num_steps != self.num_steps:
            raise CalibrationError(
                f"The calibration was made for trajectories of {self.num_steps} steps, not {num_steps}.\n"
                f"  Pass num_steps={self.num_steps}, or calibrate for the number of steps that the scheduler takes."
            )
        if self.polynomial is not None:
            return method.with_(schedule=replace(cast(Any, method.schedule), rescale=self.polynomial))
        calibrated = method.with_(schedule=Table(self.steps))
        return calibrated if self.scalars is None else calibrated.with_(predictor=self.scalars)

    def check_model(self, model: nn.Module) -> None:
        """Raise CalibrationError when it was made for a model with other weights."""
        found = fingerprint_weights(model)
        if found != self.model:
            raise CalibrationError(
                f"The calibration was made for a model with other weights.\n"
                f"  made for: {self.model}\n  {type(model).__name__} here: {found}\n"
                "  Load the weights it was made for, in the same dtype, or calibrate this model."
            )

    def check_scheduler(self, scheduler: Any) -> None:
        """Raise CalibrationError when it was made with another scheduler than this one, or with other options of it.

        Nothing is said where none was known when it was made.
        """
        found = fingerprint_scheduler(scheduler)
        if self.scheduler is not None and self.scheduler != found:
            raise CalibrationError(
                f"The calibration was made with another scheduler, or with other options of it.\n"
                f"  made for: {self.scheduler}\n  {type(scheduler).__name__} here: {found}\n"
                "  Use the scheduler it was made with, or calibrate with this one."
            )

    def as_dict(self) -> dict[str, Any]:
        """Return all but the scalars themselves as values that JSON can say; of those, their bands."""
        plain = {known.name: getattr(self, known.name) for known in fields(self)}
        return plain | {
            "timesteps": list(self.timesteps),
            "steps": list(self.steps),
            "scalars": None if self.scalars is None else {"edges": list(self.scalars.edges)},
            "polynomial": None if self.polynomial is None else asdict(self.polynomial),
            "errors": dict(self.errors),
            "neighbours": [{"steps": list(steps), "error": error} for steps, error in self.neighbours],
            "versions": dict(self.versions),
        }

    def save(self, path: str | Path) -> None:
        """Write one safetensors file, its metadata strict JSON; an older file is replaced whole.

        The tensor `scalars` is float64 [predicted steps, sites or 1, bands, features], newest first, 0 where a step
        has fewer features before it.

        Raises OSError when it cannot be written.
        """
        tensors = {} if self.scalars is None else {"scalars": _tensor_of(self.scalars)}
        write_tensors(path_of(path), {"schema": _SCHEMA, **self.as_dict()}, tensors)

    @classmethod
    def load(cls, path: str | Path) -> Calibration:
        """Read a file that `save` wrote.

        Raises CalibrationError when it is not such a file, or its content makes no sense.
        """
        try:
            return cls._from_dict(*read_tensors(path_of(path)))
        except FileNotFoundError as error:
            raise CalibrationError(
                f"There is no calibration file.\n  missing: {path}\n  Make it: calibrate(...).save({str(path)!r})."
            ) from error
        except (ValueError, OSError) as error:
            raise CalibrationError(
                f"This is not a calibration file that can be used: {error}\n  file: {path}\n"
                "  Calibrate again, with the version of fouriercache that is to use it."
            ) from error

    @classmethod
    def _from_dict(cls, about: object, tensors: Mapping[str, Tensor]) -> Calibration:
        """Raises ValueError when a key is missing, foreign, or has a value of another kind."""
        if not isinstance(about, dict) or about.get("schema") != _SCHEMA:
            raise ValueError(f"its schema is not {_SCHEMA!r}")
        known = {"schema"} | {known.name for known in fields(cls)}
        if set(about) != known:
            raise ValueError(f"keys are missing or foreign: {sorted(set(about) ^ known)}")
        num_steps, trials = _count(about, "num_steps"), _count(about, "trials")
        timesteps = _list(about, "timesteps")
        if len(timesteps) != num_steps:
            raise ValueError(f"num_steps is {num_steps}, and there are {len(timesteps)} timesteps")
        steps = () if about["steps"] == [] else _table(about["steps"], num_steps)
        if set(tensors) != (set() if about["scalars"] is None else {"scalars"}):
            raise ValueError(f"tensors are missing or do not belong there: {sorted(tensors)}")
        return cls(
            method=_text(about, "method"),
            num_steps=num_steps,
            timesteps=tuple(_number(value, "timesteps") for value in timesteps),
            model=_text(about, "model"),
            scheduler=None if about["scheduler"] is None else _text(about, "scheduler"),
            steps=steps,
            scalars=None if not tensors else _scalars(steps, _mapping(about, "scalars"), tensors["scalars"]),
            polynomial=None if about["polynomial"] is None else _polynomial(_mapping(about, "polynomial")),
            r_squared=None if about["r_squared"] is None else _number(about["r_squared"], "r_squared"),
            errors=_numbers(about, "errors"),
            neighbours=tuple(_neighbour(one, num_steps) for one in _list(about, "neighbours")),
            trials=trials,
            versions={name: str(version) for name, version in _mapping(about, "versions").items()},
        )


def describe_method(method: Method) -> str:
    """Return all that a calibration of `method` depends on, as text: everything but its name and its schedule.

    Of a schedule that measures, what it measures.
    """
    shown: dict[str, object] = {
        "site": method.site,
        "predictor": method.predictor,
        "codec": method.codec,
        "tokens": method.tokens,
    }
    if method.schedule.indicator is not None:
        shown["indicator"] = method.schedule.indicator
    return ", ".join(f"{name}={value!r}" for name, value in shown.items())


def _text(about: Mapping[str, Any], name: str) -> str:
    value = about[name]
    if not isinstance(value, str) or not value:
        raise ValueError(f"{name} is {value!r}, not a text")
    return value


def _count(about: Mapping[str, Any], name: str) -> int:
    value = about[name]
    if type(value) is not int or value < 0:
        raise ValueError(f"{name} is {value!r}, not a count")
    return value


def _list(about: Mapping[str, Any], name: str) -> list[Any]:
    value = about[name]
    if not isinstance(value, list):
        raise ValueError(f"{name} is {value!r}, not a list")
    return value


def _mapping(about: Mapping[str, Any], name: str) -> dict[str, Any]:
    value = about[name]
    if not isinstance(value, dict):
        raise ValueError(f"{name} is {value!r}, not an object")
    return value


def _number(value: object, name: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not isfinite(value):
        raise ValueError(f"{name} holds {value!r}, not a number")
    return float(value)


def _numbers(about: Mapping[str, Any], name: str) -> dict[str, float]:
    return {key: _number(value, name) for key, value in _mapping(about, name).items()}


def _tensor_of(scalars: Calibrated) -> Tensor:
    rows = [
        [[[*row, *(0.0,) * (scalars.history - len(row))] for row in site] for site in table] for table in scalars.rows
    ]
    return torch.tensor(rows, dtype=torch.float64)


def _scalars(steps: tuple[int, ...], about: Mapping[str, Any], tensor: Tensor) -> Calibrated:
    if not steps or tensor.ndim != 4 or tensor.dtype != torch.float64 or set(about) != {"edges"}:
        raise ValueError(f"its scalars are {tensor.dtype} {list(tensor.shape)}, not float64 for steps, sites, bands")
    predicted = sorted(set(range(len(steps) + len(tensor))) - set(steps))
    if len(predicted) != len(tensor):
        raise ValueError(f"its scalars are for {len(tensor)} steps, not for all that are predicted")
    most = [sum(done < step for done in steps) for step in predicted]
    rows = tuple(
        tuple(tuple(tuple(row[:count]) for row in site) for site in table)
        for table, count in zip(tensor.tolist(), most, strict=True)
    )
    edges = tuple(_number(edge, "edges") for edge in _list(about, "edges"))
    return Calibrated(steps, rows, edges)


def _polynomial(about: Mapping[str, Any]) -> Polynomial:
    if set(about) != {"coefficients", "low", "high", "outside"}:
        raise ValueError(f"a polynomial has the keys {sorted(about)}")
    coefficients = tuple(_number(value, "coefficients") for value in _list(about, "coefficients"))
    return Polynomial(coefficients, _number(about["low"], "low"), _number(about["high"], "high"), about["outside"])


def _table(steps: object, num_steps: int) -> tuple[int, ...]:
    if not isinstance(steps, list):
        raise ValueError(f"steps is {steps!r}, not a list")
    try:
        return Table(steps).steps(num_steps)
    except MethodError as error:
        raise ValueError(str(error)) from error


def _neighbour(one: object, num_steps: int) -> tuple[tuple[int, ...], float]:
    if not isinstance(one, dict) or set(one) != {"steps", "error"}:
        raise ValueError(f"a neighbour is {one!r}, not steps and an error")
    return _table(one["steps"], num_steps), _number(one["error"], "neighbours")
