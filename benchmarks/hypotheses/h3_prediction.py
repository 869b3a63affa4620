"""H3: Fourier helps to predict further."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass

import fouriercache as fc
from fouriercache.predictors import Predictor

from .finding import Finding, Table, judge
from .ingredients import EDGES, calibrated_table, fitted_scalars
from .lab import Lab, NotMeasuredError, Trial, uniform
from .pairs import Ratio, paired_ratio

COMPUTED = 10


@dataclass(frozen=True)
class _Row:
    """A predictor, and the control that keeps as many bytes and computes as many steps; its own trial for a control."""

    group: str
    site: str
    schedule: str
    predictor: str
    is_fourier: bool
    trial: Trial
    control: Trial

    @property
    def ratio(self) -> Ratio | None:
        """Error over the control's, image by image."""
        return None if self.trial is self.control else paired_ratio(self.trial.errors, self.control.errors)


def find(lab: Lab) -> Finding:
    """Predictors with bands, or with frequencies in time, against those without, on even and on calibrated steps."""
    rows: list[_Row] = []
    for name, steps in _schedules(lab).items():
        for site in ("stack", "branch"):
            rows += _rows(lab, site, name, steps)
    duels = [(row.ratio, row) for row in rows if row.is_fourier and row.ratio is not None]
    best, winner = min(duels, key=lambda duel: duel[0].mean)
    tuned = next(r.trial for r in rows if (r.site, r.schedule, r.predictor) == ("stack", "calibrated", "order 2"))
    closest = min((row for row in rows if row.is_fourier), key=lambda row: row.trial.mean)
    return Finding(
        name="H3",
        claim="Fourier helps to predict further",
        built="predictors `Banded`, `Damped`, `Prony`, `TemporalFourier`, `Calibrated` with `edges`; preset `FreqCa`",
        verdict=judge(best, is_default=False),
        decided_by=(
            f"{sum(ratio.is_smaller for ratio, _ in duels)} of {len(duels)} comparisons are surely better than their "
            f"controls, {sum(ratio.is_larger for ratio, _ in duels)} surely worse. Best: {winner.predictor} at "
            f"{winner.site} sites on {winner.schedule} steps, {best}. The closest images of all with Fourier "
            f"({closest.predictor}, {closest.site}, {closest.schedule} steps) have "
            f"{paired_ratio(closest.trial.errors, tuned.errors)} times the error of Tuned, which has none."
        ),
        tables=[_table(rows)],
        notes=[
            "*Order 2* is the polynomial through the last three features at their true positions. *Two more warm-up "
            "steps* computes the first four steps and spreads the rest evenly."
        ],
    )


def _schedules(lab: Lab) -> dict[str, tuple[int, ...]]:
    return {"even": uniform(lab.steps, COMPUTED), "calibrated": calibrated_table(COMPUTED, lab.steps)}


def _rows(lab: Lab, site: str, name: str, steps: tuple[int, ...]) -> list[_Row]:
    def measure(predictor: Predictor, table: tuple[int, ...] = steps) -> Trial:
        return lab.measure(fc.Method("H3", site, fc.Table(table), predictor))

    def row(group: str, words: str, predictor: Predictor, control: Trial | None) -> _Row:
        trial = measure(predictor)
        return _Row(group, site, name, words, control is not None, trial, trial if control is None else control)

    reuse, second = fc.Reuse(), fc.Newton(2)
    plain, reused = row("control", "order 2", second, None), row("control", "reuse", reuse, None)
    rows = [reused, plain]
    if name == "even":
        warmed = measure(second, _warmed(lab.steps))
        rows.append(_Row("control", site, name, "order 2, two more warm-up steps", False, warmed, warmed))
    split = fc.Banded(EDGES, (reuse, second, second, second))
    damped = fc.Banded(EDGES, (second, *(fc.Damped(second, factor) for factor in (0.9, 0.8, 0.7))))
    rows.append(row("bands in space", "lowest band reused, the others of order 2", split, plain.trial))
    rows.append(row("bands in space", "order 2, damped more the higher the band", damped, plain.trial))
    if site == "stack":
        mixed = fc.Banded(EDGES, (second, second, second, fc.Newton(1)))
        rows.append(row("bands in space", "highest band of order 1, the others of order 2", mixed, plain.trial))
        series = fc.TemporalFourier(4)
        rows.append(row("frequencies in time", "Fourier series of the history", series, reused.trial))
        rows.append(row("frequencies in time", "complex exponentials (Prony), order 2", fc.Prony(2), plain.trial))
    one = row("fitted scalars", "fitted, no bands", fitted_scalars(lab, site, steps, ()), None)
    rows.append(one)
    rows.append(row("fitted scalars", "fitted, 4 bands", fitted_scalars(lab, site, steps, EDGES), one.trial))
    with suppress(NotMeasuredError):  # a page of what is kept alone leaves out the row
        kept = fitted_scalars(lab, site, steps, EDGES, keep_energy=True)
        rows.append(row("fitted scalars", "fitted, 4 bands, with their energy kept", kept, one.trial))
    return rows


def _warmed(steps: int) -> tuple[int, ...]:
    """As many computed steps as everywhere, the first four in a row."""
    rest = uniform(steps - 3, COMPUTED - 3)
    return (0, 1, 2, *(step + 3 for step in rest))


def _table(rows: list[_Row]) -> Table:
    return Table(
        f"{COMPUTED} computed steps of 50. Ratio: error over that of the control on the same steps: order 2 for bands "
        "and Prony, reuse for the Fourier series, the fit without bands for the fit with them.",
        ("kind", "sites", "steps", "predictor", "error", "ratio to control", "cache, KiB"),
        tuple(
            (row.group, row.site, row.schedule, row.predictor, row.trial.mean, row.ratio, row.trial.cache_bytes / 1024)
            for row in rows
        ),
        {"error": ".4f", "ratio to control": ".3f", "cache, KiB": ".0f"},
    )
