"""`calibrate`: the story on one screen. Record -> dynamic programming -> closed-loop search -> neighbours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from torch import nn

from fouriercache.calibration.checkpoint import Checkpoint, Measured
from fouriercache.calibration.gaps import find_table, uniform_table
from fouriercache.calibration.loop import Loop, Sample, relative_error
from fouriercache.calibration.pipelines import denoiser_of, sample_with_pipeline
from fouriercache.calibration.progress import Bars
from fouriercache.calibration.record import Recording, choose_probes, measure_sensitivity, record, spread
from fouriercache.calibration.search import neighbours_of, search
from fouriercache.calibrations import Calibration, describe_method
from fouriercache.checks import check_whole
from fouriercache.errors import CalibrationError, MethodError
from fouriercache.fingerprints import fingerprint_scheduler, fingerprint_weights
from fouriercache.methods import Method
from fouriercache.predictors import Calibrated, Predictor, Taylor
from fouriercache.presets import method_from_name
from fouriercache.schedules import Table

Steps = tuple[int, ...]


def calibrate(
    model: Any,
    method: Method | str,
    *,
    num_steps: int,
    steps: int = 10,
    sample: Sample | None = None,
    call: Mapping[str, Any] | None = None,
    seeds: Sequence[int] = (0,),
    scheduler: Any = None,
    start: Sequence[int] | None = None,
    probes: int = 12,
    trials: int = 60,
    checkpoint: str | Path | None = None,
    progress: bool = True,
    **options: Any,
) -> Calibration:
    """Find the `steps` of `num_steps` that `method` should compute, on a few trajectories of this model and sampler.

    Give a pipeline with `call` and `seeds`, or a denoiser with `sample`; a handful of images is enough. First the
    uncached trajectories are recorded and the sensitivity of the result to each step is measured; dynamic programming
    turns them into a table; a local search then moves its steps while the error of the real, cached result falls.
    Last, the error of every table one move away is measured, so that one sees whether the result hangs on luck.

    Args:
        model: a denoiser in eval mode, or a diffusers pipeline with a `transformer`. Neither is changed.
        method: what to cache and how to predict it; its schedule does not matter. A preset's name means its defaults.
        num_steps: denoising steps of a trajectory.
        steps: how many of them to compute.
        sample: `sample(denoiser)` runs the calibration set with the denoiser it is given and returns its final latents
            or images, float [n, ...]. It must do the same each time: draw noise from a generator seeded inside it.
        call: keyword arguments of the pipeline: prompts or classes, guidance, size.
        seeds: the pipeline is called once with each.
        scheduler: the scheduler that `sample` uses, to be remembered; a pipeline's own is known.
        start: a table to consider beside those of dynamic programming, say that of another guidance.
        probes: at how many steps the sensitivity is measured.
        trials: how many tables the search may try.
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
    chosen = method_from_name(method) if isinstance(method, str) else method
    _check_counts(num_steps, steps, probes, trials)
    if isinstance(chosen.predictor, Calibrated):
        raise MethodError(
            "The scalars of a Calibrated predictor were fitted for one step table, so there is no other to look for.\n"
            "  Calibrate the method with the predictor it had before, and fit scalars for the table found."
        )
    if start is not None and len(Table(start).steps(num_steps)) != steps:
        raise MethodError(f"start has {len(start)} steps, and steps says {steps}.\n  Give a table of {steps} steps.")
    denoiser, run, scheduler = _calibration_set(model, sample, call, seeds, scheduler, num_steps)
    loop = Loop(denoiser, chosen, run, num_steps, options)
    weights = fingerprint_weights(denoiser)
    about = {"model": weights, "calibration set": loop.first_call, "num_steps": num_steps, "options": repr(options)}
    kept = Checkpoint(None if checkpoint is None else Path(checkpoint), about)
    with Bars(progress) as bars:
        recording = _record(loop, kept, bars)
        bench = _Bench(loop, recording, kept, bars, describe_method(chosen))
        return bench.calibrate(
            steps,
            chosen.predictor,
            [] if start is None else [tuple(start)],
            probes,
            trials,
            weights,
            None if scheduler is None else fingerprint_scheduler(scheduler),
        )


class _Bench:
    """One method on the calibration set: what is measured is kept, and shown."""

    def __init__(self, loop: Loop, recording: Recording, kept: Checkpoint, bars: Bars, method: str) -> None:
        self._loop, self._recording, self._kept, self._bars, self._method = loop, recording, kept, bars, method
        self._known: Measured = kept.trials(method)

    def calibrate(
        self,
        computed: int,
        predictor: Predictor,
        starts: Sequence[Steps],
        probes: int,
        trials: int,
        model: str,
        scheduler: str | None,
    ) -> Calibration:
        """Go through all phases after the recording."""
        num_steps = self._loop.num_steps
        uniform = uniform_table(num_steps, computed)
        sensitivity = self._sensitivity(uniform, probes)
        # the first order's errors are often the better guide to the second's; what reads the features has no others
        guides = (Taylor(1),) if predictor.needs_gram else (Taylor(1), predictor)
        tables = [find_table(self._recording.gram, sensitivity, guide, computed) for guide in guides]
        candidates = list(dict.fromkeys([uniform, *tables, *starts]))
        errors = self._measure("start tables", candidates)
        start = min(candidates, key=lambda table: (errors[table], table))
        self._bars.begin("search", trials)
        found, error = search(lambda table: self._error(table, "search"), start, num_steps, trials)
        self._bars.end("search")
        around = self._measure("neighbours", list(neighbours_of(found, num_steps)))
        return Calibration(
            method=self._method,
            num_steps=num_steps,
            timesteps=self._recording.timesteps,
            model=model,
            scheduler=scheduler,
            steps=found,
            errors={"uniform": errors[uniform], "start": errors[start], "found": error},
            neighbours=tuple(sorted(around.items())),
            trials=len(self._of_size(computed)),
            versions=_versions(),
        )

    def _sensitivity(self, table: Steps, probes: int) -> Any:
        """The sensitivity of every step, measured at `probes` of them in a run with `table` computed."""
        measured = self._kept.sensitivities(self._method, table)
        missing = [step for step in choose_probes(self._loop.num_steps, probes) if step not in measured]
        if missing:
            self._bars.begin("sensitivity", len(missing))
            result = self._loop.run(table)
            self._known[table] = relative_error(result, self._recording.reference)
            for step in missing:
                measured[step] = measure_sensitivity(self._loop, table, result, step)
                self._kept.keep_sensitivity(self._method, table, step, measured[step])
                self._bars.advance("sensitivity", f"step {step}")
        return spread(measured, self._loop.num_steps)

    def _measure(self, phase: str, tables: Sequence[Steps]) -> dict[Steps, float]:
        self._bars.begin(phase, len(tables))
        return {table: self._error(table, phase) for table in tables}

    def _error(self, table: Steps, phase: str) -> float:
        """Return the error with `table` computed: as it was measured before, or from a run that is then kept."""
        if table not in self._known:
            self._known[table] = relative_error(self._loop.run(table), self._recording.reference)
        self._bars.advance(phase, f"error {self._known[table]:.4f}, best {min(self._of_size(len(table))):.4f}")
        return self._known[table]

    def _of_size(self, computed: int) -> list[float]:
        return [error for table, error in self._known.items() if len(table) == computed]


def _record(loop: Loop, kept: Checkpoint, bars: Bars) -> Recording:
    if kept.recording is not None:
        return kept.recording
    bars.begin("uncached", 1)
    recording = kept.keep_recording(record(loop))
    bars.advance("uncached")
    return recording


def _calibration_set(
    model: Any,
    sample: Sample | None,
    call: Mapping[str, Any] | None,
    seeds: Sequence[int],
    scheduler: Any,
    num_steps: int,
) -> tuple[nn.Module, Sample, Any]:
    """Return the denoiser, the function that samples with one, and the scheduler if it is known."""
    if isinstance(model, nn.Module):
        if sample is None or call is not None:
            raise CalibrationError(
                f"{type(model).__name__} is a denoiser, and nothing says how to sample with it.\n"
                "  Pass sample= a function that runs the sampling loop with a given denoiser, or a pipeline and call=."
            )
        return model, sample, scheduler
    if call is None or sample is not None:
        raise CalibrationError(
            f"{type(model).__name__} is no module, so it is taken for a pipeline, which needs call= and no sample=.\n"
            "  Pass call={'prompt': [...]} with the pipeline's arguments, or the denoiser and sample=."
        )
    return denoiser_of(model), sample_with_pipeline(model, call, seeds, num_steps), model.scheduler


def _check_counts(num_steps: int, steps: int, probes: int, trials: int) -> None:
    check_whole("calibrate", "num_steps", num_steps, least=2, advice="It is the scheduler's number of steps.")
    check_whole("calibrate", "steps", steps, least=1, advice="It is how many steps are computed.")
    check_whole("calibrate", "probes", probes, least=1, advice="12 are enough for 50 steps.")
    check_whole("calibrate", "trials", trials, least=1, advice="60 are enough for 10 steps of 50.")
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
