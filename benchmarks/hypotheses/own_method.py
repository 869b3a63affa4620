"""Tuned: the library's own method, against TaylorSeer as published and few-step solvers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from diffusers.schedulers.scheduling_dpmsolver_multistep import DPMSolverMultistepScheduler

import fouriercache as fc
from fouriercache.models import demo

from .finding import Finding, Table
from .ingredients import EDGES, calibrated_table, fitted_scalars, shipped_method
from .lab import Lab, Trial, uniform
from .pairs import Ratio, paired_ratio
from .subjects import UNSEEN, Images

INTERVALS: Mapping[int, int] = {10: 6, 7: 9}
"""Computed steps of 50 -> the interval at which TaylorSeer as published computes that many."""
LIMITS: Mapping[int, float] = {10: 0.33, 7: 0.45}
"""The bar: largest allowed error over that of TaylorSeer as published, at its best order."""
SMALLEST_SHARE = 1 / 16
"""The bar: largest allowed cache over TaylorSeer's."""
ORDERS = (1, 2, 3, 4)
GUIDANCE = (1.0, 2.5, 4.0)
_CALIBRATED_AT = " and ".join(f"{weight:g}" for weight in demo.CALIBRATED_GUIDANCE)
TABLE, FITTED, BANDS = "calibrated step table", "scalars fitted, no bands", "scalars fitted in 4 spatial bands"
"""Rows of the table of what each part gives: each to the row before it, the first of them to even steps."""
REFINED = "scalars refined against final images"
"""A row of the same table, to `TABLE`'s."""


@dataclass(frozen=True)
class Contest:
    """One number of computed steps: the library's own method, and what it is compared with."""

    computed: int
    own: fc.Method
    ours: Trial
    best_order: int
    published: Trial
    solver: Trial

    @property
    def ratio(self) -> Ratio:
        """Our error over TaylorSeer's, image by image."""
        return paired_ratio(self.ours.errors, self.published.errors)

    @property
    def share(self) -> float:
        """Our cache over TaylorSeer's."""
        return self.ours.cache_bytes / self.published.cache_bytes

    @property
    def is_met(self) -> bool:
        """Whether the bar is."""
        return (
            self.ours.mean <= LIMITS[self.computed] * self.published.mean
            and self.share <= SMALLEST_SHARE
            and self.ours.mean < self.solver.mean
        )


def find(lab: Lab) -> Finding:
    """The bar, what each part of the recipe gives, and whether it holds elsewhere."""
    contests = [hold_contest(lab, computed) for computed in INTERVALS]
    words = "; ".join(
        f"at {c.computed} computed steps {c.ratio} times the error of TaylorSeer as published (limit "
        f"{LIMITS[c.computed]}), with {c.share:.4f} of its cache (limit {SMALLEST_SHARE})"
        for c in contests
    )
    is_met = all(contest.is_met for contest in contests)
    elsewhere = robustness_table(lab, contests)
    worst = [max((row for row in elsewhere.rows if row[0] == m), key=lambda row: row[-1].mean) for m in INTERVALS]
    farthest = ", ".join(f"{row[-1]} at {row[0]} ({row[1]})" for row in worst)
    return Finding(
        name="Tuned",
        claim="the library's own method meets its bar",
        built=(
            "preset `Tuned`: one residual of the stack, `Newton(2)`, a calibrated step table; at 7 computed steps with "
            "scalars refined against final images, as shipped"
        ),
        verdict="adopted" if is_met else "refuted",
        decided_by=(
            f"{words[0].upper()}{words[1:]}. The largest ratio on other guidance weights and on classes never "
            f"calibrated on: {farthest}."
        ),
        tables=[
            bar_table(contests),
            ladder_table(lab, contests),
            elsewhere,
            neighbour_table(lab, contests),
        ],
    )


def hold_contest(lab: Lab, computed: int) -> Contest:
    """Measure the own method and TaylorSeer as published, every order up to 4; keep the best order."""
    own = shipped_method(lab, computed)
    published = {order: lab.measure(fc.TaylorSeer(INTERVALS[computed], order), lab.more) for order in ORDERS}
    best = min(published, key=lambda order: published[order].mean)
    solver = lab.measure_sampler("DPM-Solver++(2M)", dpm_solver, computed)
    return Contest(computed, own, lab.measure(own, lab.more), best, published[best], solver)


def bar_table(contests: Sequence[Contest]) -> Table:
    """The bar and what was reached."""
    rows = tuple(
        (
            c.computed, c.ours.mean, c.published.mean, c.best_order, c.ours.mean / c.published.mean, c.ratio,
            LIMITS[c.computed], c.share, c.solver.mean, "yes" if c.is_met else "no",
        )
        for c in contests
    )  # fmt: skip
    return Table(
        "The bar: error at most the limit times that of TaylorSeer as published (branch sites, its own schedule, the "
        f"best of its orders {', '.join(map(str, ORDERS))}) at the same number of computed steps; cache at most "
        f"{SMALLEST_SHARE} of its; error below that of DPM-Solver++(2M) with as many steps and no cache.",
        (
            "computed", "error", "TaylorSeer", "its order", "ratio of means", "ratio in pairs", "limit", "cache share",
            "DPM-Solver++", "met",
        ),
        rows,
        {
            "computed": "d", "error": ".4f", "TaylorSeer": ".4f", "its order": "d", "ratio of means": ".3f",
            "ratio in pairs": ".3f", "limit": ".2f", "cache share": ".4f", "DPM-Solver++": ".4f",
        },
    )  # fmt: skip


def ladder_table(lab: Lab, contests: Sequence[Contest]) -> Table:
    """What each part of the recipe gives, from TaylorSeer as published upwards, and what bands add at its end."""
    rows: list[tuple[Any, ...]] = []
    for contest in contests:
        trials: dict[str, Trial] = {}
        for words, method in _rungs(lab, contest):
            trial = lab.measure(method, lab.more)
            before = trials[TABLE] if words == REFINED else next(reversed(trials.values()), None)
            step = None if before is None else paired_ratio(trial.errors, before.errors)
            rows.append((contest.computed, words, trial.mean, step, trial.cache_bytes / 1024))
            trials[words] = trial
    return Table(
        "What each part gives: each row changes one thing in the row above. Ratio: to the row above, pairs of images; "
        f"of *{REFINED}*, to the step table. They are refined at guidance {_CALIBRATED_AT}, so that other weights are "
        "served too: see Guidance. Scalars are fitted on the calibration images; bands are the only part with a "
        "Fourier transform in it.",
        ("computed", "method", "error", "ratio to above", "cache, KiB"),
        tuple(rows),
        {"computed": "d", "error": ".4f", "ratio to above": ".3f", "cache, KiB": ".0f"},
    )


def _rungs(lab: Lab, contest: Contest) -> list[tuple[str, fc.Method]]:
    order, interval = contest.best_order, INTERVALS[contest.computed]
    published = fc.TaylorSeer(interval, order)
    even = fc.Table(uniform(lab.steps, contest.computed))
    table = calibrated_table(contest.computed, lab.steps)
    alone = fc.Tuned(schedule=fc.Table(table))
    rungs = [
        (f"TaylorSeer as published, order {order}", published),
        ("one stack site", published.with_(site="stack")),
        ("even steps, the last one among them", published.with_(site="stack", schedule=even)),
        ("true positions: Newton(2)", fc.Tuned(schedule=even)),
        (TABLE, alone),
    ]
    for words, edges in ((FITTED, ()), (BANDS, EDGES)):
        rungs.append((words, alone.with_(predictor=fitted_scalars(lab, "stack", table, edges))))
    return rungs if contest.own == alone else [*rungs, (REFINED, contest.own)]


def robustness_table(lab: Lab, contests: Sequence[Contest]) -> Table:
    """The same at other guidance weights, and for classes that no calibration image had."""
    sets: list[tuple[str, Images]] = [("classes never calibrated on", UNSEEN)]
    sets += [(f"guidance {guidance:g}", replace(lab.held_out, guidance=guidance)) for guidance in GUIDANCE]
    rows = [("as in the bar, guidance " + f"{lab.held_out.guidance:g}", c, c.ours, c.published) for c in contests]
    for name, images in sets:
        for contest in contests:
            theirs = fc.TaylorSeer(INTERVALS[contest.computed], contest.best_order)
            rows.append((name, contest, lab.measure(contest.own, images), lab.measure(theirs, images)))
    return Table(
        "The same calibrations on other images. All noise seeds here are others than those of the calibration. Its "
        f"step tables were found at guidance {demo.GUIDANCE:g}, scalars refined at {_CALIBRATED_AT}. Ratio: to "
        "TaylorSeer as published on the same images.",
        ("computed", "images", "number", "error", "TaylorSeer", "ratio"),
        tuple(
            (c.computed, name, len(ours.errors), ours.mean, theirs.mean, paired_ratio(ours.errors, theirs.errors))
            for name, c, ours, theirs in rows
        ),
        {"computed": "d", "number": "d", "error": ".4f", "TaylorSeer": ".4f", "ratio": ".3f"},
    )


def neighbour_table(lab: Lab, contests: Sequence[Contest]) -> Table:
    """Every table that differs from the one found by one step moved by one: not one lucky schedule."""
    images = replace(lab.held_out, classes=lab.held_out.classes[:5])
    rows = []
    for contest in contests:
        steps = calibrated_table(contest.computed, lab.steps)
        middle = lab.measure(fc.Tuned(schedule=fc.Table(steps)), images).mean
        even = lab.measure(fc.Tuned(schedule=fc.Table(uniform(lab.steps, contest.computed))), images).mean
        ratios = [
            lab.measure(fc.Tuned(schedule=fc.Table(near)), images).mean / middle
            for near in neighbours(steps, lab.steps)
        ]
        rows.append(
            (contest.computed, steps, middle, len(ratios), min(ratios), sum(ratios) / len(ratios), max(ratios),
             even / middle)
        )  # fmt: skip
    return Table(
        f"Neighbours of the step tables, one step moved by one, on {images.count} held-out images: their error over "
        "that of the table found, and that of even steps over it; all with the polynomial, no scalars.",
        ("computed", "table", "error", "neighbours", "best", "mean", "worst", "even steps"),
        tuple(rows),
        {
            "computed": "d", "error": ".4f", "neighbours": "d", "best": ".3f", "mean": ".3f", "worst": ".3f",
            "even steps": ".3f",
        },
    )  # fmt: skip


def neighbours(steps: Sequence[int], num_steps: int) -> list[tuple[int, ...]]:
    """Every table with one step but the first moved by one, still ascending and inside the trajectory."""
    found = []
    for index in range(1, len(steps)):
        for move in (-1, 1):
            near = list(steps)
            near[index] += move
            if near[index - 1] < near[index] < (near[index + 1] if index + 1 < len(near) else num_steps):
                found.append(tuple(near))
    return found


def dpm_solver() -> Any:
    """DPM-Solver++(2M) with the demo's noise schedule."""
    loader: Any = DPMSolverMultistepScheduler  # diffusers does not annotate from_config
    return loader.from_config(demo.load_demo_scheduler().config)
