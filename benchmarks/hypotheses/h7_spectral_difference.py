"""H7: the spectral difference beats the polynomial as the trigger of an adaptive schedule."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import fouriercache as fc
from fouriercache.indicators import Indicator
from fouriercache.predictors import Predictor

from .finding import Finding, Table, judge
from .ingredients import calibrated_polynomial, calibrated_table, write_whole
from .lab import Lab, Trial, uniform
from .pairs import Ratio, paired_ratio
from .thresholds import tuned

COMPUTED = 10
SEA, POLYNOMIAL = "modulated input, SEA-filtered", "modulated input, calibrated polynomial"
TABLE, ORACLE = "calibrated step table", "oracle: the output's true change"


@dataclass(frozen=True)
class _Row:
    trigger: str
    predictor: str
    is_spectral: bool
    is_adaptive: bool
    trial: Trial


def find(lab: Lab) -> Finding:
    """Adaptive schedules with every indicator, driving reuse and a polynomial predictor, at equal computed steps."""
    same = fc.Polynomial((1.0, 0.0))
    triggers: tuple[tuple[str, bool, Indicator, fc.Polynomial], ...] = (
        ("modulated input, bare", False, fc.Modulated(), same),
        (POLYNOMIAL, False, fc.Modulated(), calibrated_polynomial(lab)),
        (SEA, True, fc.Filtered(2.0, lab.subject.noise()), same),
        ("modulated input, low band", True, fc.BandLimited(0.25), same),
    )
    rows = []
    for words, predictor in (("reuse", fc.Reuse()), ("Newton(2)", fc.Newton(2))):
        for trigger, is_spectral, indicator, rescale in triggers:
            rows.append(_Row(trigger, words, is_spectral, True, adaptive(lab, indicator, rescale, predictor)))
        for name, steps in (
            ("even steps", uniform(lab.steps, COMPUTED)),
            (ORACLE, steps_by_change(true_changes(lab), COMPUTED)),
            (TABLE, calibrated_table(COMPUTED, lab.steps)),
        ):
            fixed = fc.Method("fixed", "stack", fc.Table(steps), predictor)
            rows.append(_Row(name, words, False, False, lab.measure(fixed)))
    best, winner, control = min((_duel(rows, words) for words in ("reuse", "Newton(2)")), key=lambda duel: duel[0].mean)
    return Finding(
        name="H7",
        claim="the spectral difference beats the polynomial",
        built="schedule `Accumulated`, indicators `Filtered` (SeaCache), `BandLimited` and `Modulated`, presets "
        "`TeaCache` and `SeaCache`",
        verdict=judge(best, is_default=False),
        decided_by=(
            f"Best spectral trigger against the best adaptive one without a transform: {winner.trigger} has {best} "
            f"times the error of {control.trigger} (driving {winner.predictor}, {winner.trial.computed:.1f} and "
            f"{control.trial.computed:.1f} computed steps). SeaCache's filter against the calibrated polynomial: "
            f"{_filter_to_polynomial(rows, 'reuse')} driving reuse, {_filter_to_polynomial(rows, 'Newton(2)')} driving "
            f"Newton(2). Against the best spectral trigger, with the same predictor: the oracle has "
            f"{_fixed_to(winner, ORACLE, rows)} times its error, the calibrated step table "
            f"{_fixed_to(winner, TABLE, rows)}."
        ),
        tables=[_table(rows)],
        notes=[
            "Thresholds were found on the calibration images, so that each trigger computes as many steps as the fixed "
            "tables, or a few less. A batch decides together. The oracle follows the rule of the triggers, with the "
            "relative change of the model's own output in the uncached run of the very images that are measured."
        ],
    )


def adaptive(lab: Lab, indicator: Indicator, rescale: fc.Polynomial, predictor: Predictor) -> Trial:
    """Measure an adaptive schedule at the threshold at which it computes as many steps as the fixed ones."""
    base = fc.Method("adaptive", "stack", fc.Accumulated(indicator, 1.0, rescale), predictor)

    def build(threshold: float) -> fc.Method:
        return base.with_(schedule=fc.Accumulated(indicator, threshold, rescale))

    return lab.measure(tuned(lab, build, COMPUTED))


def _duel(rows: list[_Row], predictor: str) -> tuple[Ratio, _Row, _Row]:
    mine = [row for row in rows if row.predictor == predictor and row.is_adaptive]
    spectral = min((row for row in mine if row.is_spectral), key=lambda row: row.trial.mean)
    plain = min((row for row in mine if not row.is_spectral), key=lambda row: row.trial.mean)
    return paired_ratio(spectral.trial.errors, plain.trial.errors), spectral, plain


def _filter_to_polynomial(rows: list[_Row], predictor: str) -> Ratio:
    by_trigger = {row.trigger: row.trial for row in rows if row.predictor == predictor}
    return paired_ratio(by_trigger[SEA].errors, by_trigger[POLYNOMIAL].errors)


def _fixed_to(winner: _Row, trigger: str, rows: list[_Row]) -> Ratio:
    fixed = next(row for row in rows if (row.trigger, row.predictor) == (trigger, winner.predictor))
    return paired_ratio(fixed.trial.errors, winner.trial.errors)


def true_changes(lab: Lab) -> list[float]:
    """How much the model's output changes at each step but the first: mean |v_t - v_{t-1}| / mean |v_{t-1}|."""
    path = lab.folder / f"true changes {lab.steps}.json"
    if not path.is_file():
        lab.begin("  true changes of the output")
        write_whole(path, json.dumps(lab.output_changes()))
    changes: list[float] = json.loads(path.read_text())
    return changes


def steps_by_change(changes: Sequence[float], computed: int) -> tuple[int, ...]:
    """The steps that `Accumulated` computes where these are the changes, at the threshold that makes them `computed`.

    Raises:
        ValueError: no threshold does.
    """

    def at(threshold: float) -> tuple[int, ...]:
        schedule, before, steps = fc.Accumulated(threshold=threshold), fc.Decision(0, is_computed=True), [0]
        for step in range(1, len(changes) + 1):
            before = schedule.decide(step, len(changes) + 1, before, partial(changes.__getitem__, step - 1))
            steps += [step] * before.is_computed
        return tuple(steps)

    low, high = 0.0, sum(changes) + 1.0
    for _ in range(60):
        middle = (low + high) / 2
        if len(at(middle)) == computed:
            return at(middle)
        low, high = (middle, high) if len(at(middle)) > computed else (low, middle)
    raise ValueError(f"no threshold computes {computed} steps")


def _table(rows: list[_Row]) -> Table:
    bare = {row.predictor: row for row in reversed(rows) if row.is_adaptive}
    return Table(
        "Stack sites. Ratio: error over that of the bare trigger with the same predictor.",
        ("trigger", "drives", "computed", "error", "ratio to bare", "cache, KiB"),
        tuple(
            (
                *(row.trigger, row.predictor, row.trial.computed, row.trial.mean),
                *(_ratio(row, bare[row.predictor]), row.trial.cache_bytes / 1024),
            )
            for row in rows
        ),
        {"computed": ".1f", "error": ".4f", "ratio to bare": ".3f", "cache, KiB": ".0f"},
    )


def _ratio(row: _Row, bare: _Row) -> Ratio | None:
    return None if row is bare else paired_ratio(row.trial.errors, bare.trial.errors)
