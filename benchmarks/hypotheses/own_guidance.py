"""Guidance: the own method holds its bar far from the guidance weight that it was calibrated at."""

from __future__ import annotations

from dataclasses import dataclass, replace

import fouriercache as fc
from fouriercache.models import demo

from .finding import Finding, Table
from .ingredients import calibrated_table, refined_scalars, shipped_method
from .lab import Lab, Trial
from .own_method import GUIDANCE, INTERVALS, LIMITS
from .pairs import Ratio, paired_ratio

COMPUTED = 7
"""The fewest steps of the bar: with ten, one calibration holds it everywhere."""
ORDER = 4
"""The best order of TaylorSeer as published, as the own method's section found it."""
FAR = 4.0
_TABLE_AT_FAR = (0, 13, 21, 29, 36, 42, 47)
"""The best of the tables around the shipped one, on the calibration images at guidance `FAR`."""
_ALONE, _ORACLE = "step table alone", f"scalars refined at guidance {FAR:g} alone (oracle)"
_LOW_WEIGHTS = (1.5, 3.5)
_LOW = "scalars refined at guidance 1.5 and 3.5"
_SHIPPED = f"as shipped: scalars refined at guidance {' and '.join(f'{one:g}' for one in demo.CALIBRATED_GUIDANCE)}"


@dataclass(frozen=True)
class _Row:
    """One recipe on images of one guidance weight."""

    weight: float
    words: str
    ours: Trial
    theirs: Trial

    @property
    def ratio(self) -> Ratio:
        return paired_ratio(self.ours.errors, self.theirs.errors)

    @property
    def share(self) -> float:
        """Its mean error over TaylorSeer's."""
        return self.ours.mean / self.theirs.mean

    @property
    def is_within(self) -> bool:
        return self.share <= LIMITS[COMPUTED]


def find(lab: Lab) -> Finding:
    """The shipped scalars, their table alone, and an oracle, against TaylorSeer at every weight of `Tuned`."""
    rows = []
    for images in (lab.more, *(replace(lab.more, guidance=weight) for weight in GUIDANCE)):
        theirs = lab.measure(fc.TaylorSeer(INTERVALS[COMPUTED], ORDER), images)
        for words, own in recipes_of(lab).items():
            rows.append(_Row(images.guidance, words, lab.measure(own, images), theirs))
    far = {row.words: row for row in rows if row.weight == FAR}
    serving = [words for words in far if all(row.is_within for row in rows if row.words == words)]
    weights = ", ".join(f"{weight:g}" for weight in sorted({row.weight for row in rows}))
    served = f"Within the limit at guidance {weights}, all of them: {', '.join(serving) or 'none'}."
    return Finding(
        name="Guidance",
        claim="one calibration serves every guidance weight",
        built="`calibrate(..., refine=1)` on trajectories of one or several guidance weights",
        verdict="adopted" if _SHIPPED in serving else "optional" if serving else "refuted",
        decided_by=(
            f"At {COMPUTED} computed steps and guidance {FAR:g} the shipped calibration has {far[_SHIPPED].ratio} "
            f"times the error of TaylorSeer as published (limit {LIMITS[COMPUTED]}), its step table alone "
            f"{far[_ALONE].ratio}, a calibration made there {far[_ORACLE].ratio}. {served}"
        ),
        tables=[
            Table(
                f"{COMPUTED} computed steps of {lab.steps}, three features of the stack kept; held-out images. "
                "Ratio: to TaylorSeer as published on the same images.",
                (
                    "guidance", "images", "recipe", "error", "TaylorSeer", "ratio of means", "ratio in pairs",
                    "within the limit",
                ),
                tuple(
                    (
                        row.weight,
                        len(row.ours.errors),
                        row.words,
                        row.ours.mean,
                        row.theirs.mean,
                        row.share,
                        row.ratio,
                        "yes" if row.is_within else "no",
                    )
                    for row in rows
                ),
                {
                    "guidance": "g", "images": "d", "error": ".4f", "TaylorSeer": ".4f", "ratio of means": ".3f",
                    "ratio in pairs": ".3f",
                },
            )
        ],
        notes=[
            "Refined scalars are two factors a gap, on the linear and the quadratic term of the polynomial, found on "
            "the calibration images at the weights named. The oracle's table is the best of those around the shipped "
            f"one at guidance {FAR:g}. Ten computed steps hold their bar everywhere with the table alone: see Tuned.",
            *([] if serving else [_limit(rows)]),
        ],
    )  # fmt: skip


def _limit(rows: list[_Row]) -> str:
    """What bounds recipes of which none is within the limit at every weight."""
    worst = {row.words: max(r.share for r in rows if r.words == row.words) for row in rows}
    closest = min(worst, key=worst.__getitem__)
    best = [
        min((r for r in rows if r.weight == w), key=lambda r: r.share) for w in dict.fromkeys(r.weight for r in rows)
    ]
    ends = "; ".join(f"at guidance {row.weight:g} {row.words}, {row.share:.3f}" for row in best)
    return (
        f"The recipe that is best over all weights ({closest}) has {worst[closest]:.3f} of TaylorSeer's error at its "
        "worst, and that seems to be the limit of one calibration with three features of the stack. Best at each "
        f"weight alone: {ends}."
    )


def recipes_of(lab: Lab) -> dict[str, fc.Method]:
    """What is compared; all compute as many steps and keep as much."""
    table = calibrated_table(COMPUTED, lab.steps)
    own = fc.Tuned(schedule=fc.Table(table))
    at_far = _TABLE_AT_FAR if lab.steps == 50 else table
    return {
        _ALONE: own,
        _LOW: own.with_(predictor=refined_scalars(lab, table, _LOW_WEIGHTS)),
        _SHIPPED: shipped_method(lab, COMPUTED),
        "Taylor(2), the published series, on the same table": own.with_(predictor=fc.Taylor(2)),
        _ORACLE: fc.Tuned(schedule=fc.Table(at_far)).with_(predictor=refined_scalars(lab, at_far, (FAR,))),
    }
