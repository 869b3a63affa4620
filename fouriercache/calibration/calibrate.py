"""`calibrate`: the story on one screen. Record -> steps -> scalars, or record -> polynomial."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from torch import nn

from fouriercache.calibration.bench import Bench
from fouriercache.calibration.checkpoint import Checkpoint
from fouriercache.calibration.fit import Fit
from fouriercache.calibration.loop import Loop, Sample
from fouriercache.calibration.pipelines import Call, calibration_set
from fouriercache.calibration.polynomials import fit_polynomial, record_changes
from fouriercache.calibration.progress import Bars
from fouriercache.calibrations import Calibration, describe_method
from fouriercache.checks import check_whole
from fouriercache.errors import CalibrationError, MethodError
from fouriercache.fingerprints import fingerprint_scheduler, fingerprint_weights
from fouriercache.methods import Method
from fouriercache.paths import path_of
from fouriercache.predictors import Calibrated
from fouriercache.presets import method_for
from fouriercache.schedules import Table

Steps = tuple[int, ...]


def calibrate(
    model: Any,
    method: Method | str,
    *,
    num_steps: int,
    steps: int | Sequence[int] | None = None,
    sample: Sample | None = None,
    call: Call | None = None,
    seeds: Sequence[int] = (0,),
    scheduler: Any = None,
    start: Sequence[int] | None = None,
    probes: int = 12,
    trials: int = 60,
    fit: Fit | None = None,
    refine: int = 0,
    checkpoint: str | Path | None = None,
    progress: bool = True,
    **options: Any,
) -> Calibration:
    """Find the `steps` of `num_steps` that `method` should compute, on a few trajectories of this model and sampler.

    Of a method that measures while it runs (TeaCache), fit its polynomial instead.

    Give a pipeline with `call` and `seeds`, or a denoiser with `sample`; a handful of images is enough. First the
    uncached trajectories are recorded and the sensitivity of the result to each step is measured; dynamic programming
    turns them into a table; a local search then moves its steps while the error of the real, cached result falls.
    Last, the error of every table one move away is measured, so that one sees whether the result hangs on luck.

    Args:
        model: a denoiser in eval mode, or a diffusers pipeline with a `transformer`. Neither is changed.
        method: what to cache and how to predict it; its schedule does not matter. A preset's name means its defaults.
        num_steps: denoising steps of a trajectory.
        steps: how many of them to compute, 10 if not given; or a table of steps to take as it is.
        sample: `sample(denoiser)` runs the calibration set with the denoiser it is given and returns its final latents
            or images, float [n, ...]. It must do the same each time: draw noise from a generator seeded inside it.
        call: keyword arguments of the pipeline: prompts or classes, guidance, size. Or several of them, say one for
            each guidance weight that will be used.
        seeds: the pipeline is called once with each, for each of `call`.
        scheduler: the scheduler that `sample` uses, to be remembered; a pipeline's own is known.
        start: a table to consider beside those of dynamic programming, say that of another guidance.
        probes: at how many steps the sensitivity is measured.
        trials: how many tables the search may try.
        fit: how to fit scalars of predictions for the steps found. They are kept where they lower the error.
        refine: rounds of refining the scalars against the final result; each takes about two runs for a gap. It needs
            two samples or more, for half of them judge. Kept where they lower the error.
        checkpoint: a file that keeps every measurement, for this and other methods and numbers of steps. A calibration
            that was broken off goes on from it, and no table is measured twice.
        progress: show bars on stderr.
        options: keyword arguments of `optimize` that the denoiser needs (grid, passes_per_step, ...).

    Returns:
        A `Calibration`: `save` it, and pass it or its file to `optimize(..., calibration=)`.

    Raises:
        MethodError: an unknown method, or a number that makes no sense.
        CalibrationError: `sample` or the pipeline cannot be used, is not repeatable, or takes another number of steps;
            the checkpoint belongs to another calibration.
        CaptureError, UnsupportedModelError: as `optimize` raises them.
    """
    chosen = method_for(method, num_steps) if isinstance(method, str) else method
    _check_counts(num_steps, probes, trials, refine)
    _check_fit(fit)
    kept_at = None if checkpoint is None else _checked_path(checkpoint)
    denoiser, run, known_scheduler = calibration_set(model, sample, call, seeds, scheduler, num_steps)
    common: dict[str, Any] = {
        "method": describe_method(chosen),
        "num_steps": num_steps,
        "model": fingerprint_weights(denoiser),
        "scheduler": None if known_scheduler is None else fingerprint_scheduler(known_scheduler),
        "versions": _versions(),
    }
    if chosen.schedule.indicator is not None:
        _check_measuring(steps, fit, refine)
        return _calibrate_polynomial(denoiser, chosen, run, num_steps, options, progress, common)
    if chosen.predictor.needs_gram and (fit is not None or refine):
        raise MethodError(
            f"The scalars of {chosen.predictor.name!r} come from the features as they run, so none can be fitted.\n"
            "  Leave out fit and refine, or calibrate a predictor of step numbers alone, as Newton(2)."
        )
    wanted = _checked_steps(chosen, num_steps, 10 if steps is None else steps, start)
    loop = Loop(denoiser, chosen, run, num_steps, options)
    belongs_to = {"model": common["model"], "calibration set": loop.first_call, "num_steps": num_steps}
    kept = Checkpoint(kept_at, {**belongs_to, "options": repr(options)})
    with Bars(progress) as bars:
        bench = Bench(denoiser, chosen, run, loop, kept, bars)
        if isinstance(wanted, int):
            found = bench.find_steps(wanted, [] if start is None else [tuple(start)], probes, trials)
        else:
            found = bench.take_steps(wanted)
        if fit is not None:
            found = bench.fit(found, fit)
        if refine:
            found = bench.refine(found, Fit() if fit is None else fit, refine)
    return Calibration(**common, **vars(found), timesteps=bench.recording.timesteps)


def _calibrate_polynomial(
    model: nn.Module,
    method: Method,
    sample: Sample,
    num_steps: int,
    options: Mapping[str, Any],
    progress: bool,
    common: Mapping[str, Any],
) -> Calibration:
    with Bars(progress) as bars:
        bars.begin("uncached", 1)
        distances, changes, timesteps = record_changes(model, method, sample, num_steps, options)
        bars.advance("uncached")
    polynomial, r_squared = fit_polynomial(distances, changes)
    return Calibration(**common, timesteps=timesteps, polynomial=polynomial, r_squared=r_squared)


def _check_counts(num_steps: int, probes: int, trials: int, refine: int) -> None:
    check_whole("calibrate", "num_steps", num_steps, least=2, advice="It is the scheduler's number of steps.")
    check_whole("calibrate", "probes", probes, least=1, advice="12 are enough for 50 steps.")
    check_whole("calibrate", "trials", trials, least=1, advice="60 are enough for 10 steps of 50.")
    check_whole("calibrate", "refine", refine, least=0, advice="It is a number of rounds; 0 refines nothing.")


def _check_fit(fit: object) -> None:
    if fit is not None and not isinstance(fit, Fit):
        raise MethodError(
            f"calibrate needs fit to be a Fit, got {fit!r} of type {type(fit).__name__}.\n"
            f"  where: calibrate(fit={fit!r})\n"
            "  Pass fit=Fit(), or leave it out and no scalars are fitted."
        )


def _checked_path(checkpoint: str | Path) -> Path:
    """The file that keeps the measurements: said before anything is measured that it cannot be one."""
    path = path_of(checkpoint)
    if path.is_dir() or not path.parent.is_dir():
        fault = "is a folder" if path.is_dir() else "is in a folder that is not there"
        raise CalibrationError(
            f"The checkpoint {fault}, so nothing can be kept in it.\n"
            f"  where: calibrate(checkpoint={str(checkpoint)!r})\n"
            "  Give the path of a file, new or of this calibration, in a folder that is there."
        )
    return path


def _check_measuring(steps: int | Sequence[int] | None, fit: Fit | None, refine: int) -> None:
    if steps is not None or fit is not None or refine:
        raise MethodError(
            "A schedule that measures decides about steps itself; of it a polynomial is fitted, and nothing else.\n"
            "  Leave out steps, fit and refine, or calibrate a method with another schedule."
        )


def _checked_steps(
    method: Method, num_steps: int, steps: int | Sequence[int], start: Sequence[int] | None
) -> int | Steps:
    if isinstance(method.predictor, Calibrated):
        raise MethodError(
            "The scalars of a Calibrated predictor were fitted for one step table, so there is no other to look for.\n"
            "  Calibrate the method with the predictor it had before; fit=Fit() fits scalars for the steps found."
        )
    if not isinstance(steps, int):
        return Table(steps).steps(num_steps)
    check_computed(steps, num_steps)
    if start is not None and len(Table(start).steps(num_steps)) != steps:
        raise MethodError(f"start has {len(start)} steps, and steps says {steps}.\n  Give a table of {steps} steps.")
    return steps


def check_computed(steps: int, num_steps: int) -> None:
    """Raise MethodError when that many computed steps leave nothing to choose."""
    check_whole("calibrate", "steps", steps, least=1, advice="It is how many steps are computed.")
    if steps >= num_steps:
        raise MethodError(
            f"calibrate was asked for {steps} computed steps of {num_steps}, which leaves nothing to choose.\n"
            f"  Give steps= a number below {num_steps}."
        )


def _versions() -> dict[str, str]:
    found = {}
    for name in ("fouriercache", "torch", "diffusers"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "run from its sources"
    return found
