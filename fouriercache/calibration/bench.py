"""One method on one calibration set: the phases of a calibration, each measured thing kept and shown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import isclose

from torch import nn

from fouriercache.calibration.checkpoint import Checkpoint
from fouriercache.calibration.fit import Fit, fit_scalars, form_of
from fouriercache.calibration.gaps import Array, find_table, uniform_table
from fouriercache.calibration.loop import Loop, Sample, relative_error
from fouriercache.calibration.progress import Bars
from fouriercache.calibration.record import Recording, choose_probes, measure_sensitivity, record, spread
from fouriercache.calibration.refine import count_runs, refine
from fouriercache.calibration.search import neighbours_of, search
from fouriercache.calibrations import describe_method
from fouriercache.errors import CalibrationError
from fouriercache.methods import Method
from fouriercache.predictors import Calibrated, Taylor

Steps = tuple[int, ...]

_SAME = 1e-3
"""Two runs of one calibration set are at most so far apart, relative; another machine's rounding is well within."""


@dataclass(frozen=True)
class _Found:
    """What the phases found so far; the fields are those of `Calibration`."""

    steps: Steps
    errors: dict[str, float]
    neighbours: tuple[tuple[Steps, float], ...] = ()
    trials: int = 0
    scalars: Calibrated | None = None

    @property
    def error(self) -> float:
        """The error with what is kept: the smallest measured for `steps`."""
        return min(error for name, error in self.errors.items() if name not in ("uniform", "start"))


class Bench:
    """Runs the phases.

    Attributes:
        recording: the uncached run, made when the bench is, unless the checkpoint has it.
    """

    def __init__(
        self, model: nn.Module, method: Method, sample: Sample, loop: Loop, kept: Checkpoint, bars: Bars
    ) -> None:
        self._model, self._method, self._sample = model, method, sample
        self._loop, self._kept, self._bars = loop, kept, bars
        self._about = describe_method(method)
        self._known = kept.trials(self._about)
        self.recording = self._record()

    def find_steps(self, computed: int, starts: Sequence[Steps], probes: int, trials: int) -> _Found:
        """Look for the best table of `computed` steps: dynamic programming, search, neighbours."""
        num_steps, predictor = self._loop.num_steps, self._method.predictor
        uniform = uniform_table(num_steps, computed)
        sensitivity = self._sensitivity(uniform, probes)
        # the first order's errors are often the better guide to the second's; what reads the features has no others
        guides = (Taylor(1),) if predictor.needs_gram else (Taylor(1), predictor)
        tables = [find_table(self.recording.gram, sensitivity, guide, computed) for guide in guides]
        candidates = list(dict.fromkeys([uniform, *tables, *starts]))
        errors = self._measure("start tables", candidates)
        start = min(candidates, key=lambda table: (errors[table], table))
        self._bars.begin("search", trials)
        steps, error = search(lambda table: self._error(table, "search"), start, num_steps, trials)
        self._bars.end("search")
        around = self._measure("neighbours", list(neighbours_of(steps, num_steps)))
        measured = {"uniform": errors[uniform], "start": errors[start], "found": error}
        return _Found(steps, measured, tuple(sorted(around.items())), len(self._of_size(computed)))

    def take_steps(self, steps: Steps) -> _Found:
        """Measure a table that is given."""
        uniform = uniform_table(self._loop.num_steps, len(steps))
        errors = self._measure("given steps", list(dict.fromkeys([steps, uniform])))
        return _Found(steps, {"uniform": errors[uniform], "found": errors[steps]}, trials=len(errors))

    def fit(self, found: _Found, fit: Fit) -> _Found:
        """Fit scalars for the steps found; keep them if they lower the error."""
        self._bars.begin("fit", 2)
        loop = self._loop_of_form(fit)
        scalars = fit_scalars(self._model, self._method, loop, found.steps, fit)
        self._bars.advance("fit")
        return self._keep_if_better(found, loop, scalars, "fit", "fitted")

    def refine(self, found: _Found, fit: Fit, rounds: int) -> _Found:
        """Refine the scalars found, or the predictor's own, against the final result; keep them if they are better."""
        if len(self.recording.reference) < 2:
            raise CalibrationError(
                "Refining needs at least two samples: half of them judge what the others propose.\n"
                "  Let the calibration set have more rows, or pass refine=0."
            )
        num_steps = self._loop.num_steps
        loop = self._loop if found.scalars is None else self._loop_of_form(fit)
        start = found.scalars or scalars_of(self._method, found.steps, num_steps)
        self._bars.begin("refine", count_runs(found.steps, num_steps, start.history, rounds) + 1)
        scalars = refine(
            loop,
            found.steps,
            start,
            self.recording.reference,
            rounds=rounds,
            on_run=lambda: self._bars.advance("refine"),
        )
        refined = self._keep_if_better(found, loop, scalars, "refine", "refined")
        self._bars.end("refine")
        return refined

    def _record(self) -> Recording:
        """Make the uncached run, or take the one that is kept once it is clear that it is of this calibration set.

        That the set begins alike does not tell: later trajectories, or a guidance weight, may be others. So one kept
        error is measured again; where there is none, the uncached run is.
        """
        kept = self._kept.recording
        phase = "uncached" if kept is None or not self._known else "check of what is kept"
        self._bars.begin(phase, 1)
        if kept is not None and self._known:
            table, error = next(iter(self._known.items()))
            result = self._loop.run(table)
            is_same = result.shape == kept.reference.shape
            is_same = is_same and isclose(relative_error(result, kept.reference), error, rel_tol=_SAME)
            made = kept
        else:
            made = record(self._loop)
            is_same = kept is None or made.reference.shape == kept.reference.shape
            is_same = is_same and (kept is None or relative_error(made.reference, kept.reference) < _SAME)
        if not is_same:
            raise self._kept.other("results of the calibration set")
        self._bars.advance(phase)
        return kept or self._kept.keep_recording(made)

    def _sensitivity(self, table: Steps, probes: int) -> Array:
        """The sensitivity of every step, measured at `probes` of them in a run with `table` computed."""
        measured = self._kept.sensitivities(self._about, table)
        missing = [step for step in choose_probes(self._loop.num_steps, probes) if step not in measured]
        if missing:
            self._bars.begin("sensitivity", len(missing))
            result = self._loop.run(table)
            self._known[table] = relative_error(result, self.recording.reference)
            for step in missing:
                measured[step] = measure_sensitivity(self._loop, table, result, step)
                self._kept.keep_sensitivity(self._about, table, step, measured[step])
                self._bars.advance("sensitivity", f"step {step}")
        return spread(measured, self._loop.num_steps)

    def _measure(self, phase: str, tables: Sequence[Steps]) -> dict[Steps, float]:
        self._bars.begin(phase, len(tables))
        return {table: self._error(table, phase) for table in tables}

    def _error(self, table: Steps, phase: str) -> float:
        """Return the error with `table` computed: as it was measured before, or from a run that is then kept."""
        if table not in self._known:
            self._known[table] = relative_error(self._loop.run(table), self.recording.reference)
        self._bars.advance(phase, f"error {self._known[table]:.4f}, best {min(self._of_size(len(table))):.4f}")
        return self._known[table]

    def _of_size(self, computed: int) -> list[float]:
        return [error for table, error in self._known.items() if len(table) == computed]

    def _loop_of_form(self, fit: Fit) -> Loop:
        """A loop whose graphs take scalars of the form that `fit` gives."""
        form = form_of(self._method, fit)
        if form is self._method:
            return self._loop
        return Loop(self._model, form, self._sample, self._loop.num_steps, self._loop.options)

    def _keep_if_better(self, found: _Found, loop: Loop, scalars: Calibrated, phase: str, name: str) -> _Found:
        error = relative_error(loop.run(found.steps, answers=scalars.table), self.recording.reference)
        self._bars.advance(phase, f"error {error:.4f}, before {found.error:.4f}")
        kept = scalars if error < found.error else found.scalars
        return replace(found, scalars=kept, errors={**found.errors, name: error})


def scalars_of(method: Method, steps: Steps, num_steps: int) -> Calibrated:
    """Return the scalars that the method's own predictor gives with `steps` computed, as a table.

    The predictor is one whose scalars depend on step numbers alone.
    """
    rows = tuple(
        method.predictor.table(tuple(done for done in steps if done < step), step)
        for step in range(num_steps)
        if step not in steps
    )
    return Calibrated(steps, rows, method.predictor.edges)
