"""H1: trajectories are temporally low-frequency, and a low-pass isolates what can be reused."""

from __future__ import annotations

from dataclasses import dataclass

import fouriercache as fc

from .finding import Finding, Picture, Table, judge
from .ingredients import EDGES, analyzed
from .lab import Lab, Trial
from .pairs import Ratio, paired_ratio

INTERVAL = 5
PASSED = (0.25, 0.5, 0.75)
"""What a low-pass lets through, as shares of the largest radial frequency."""
_SHOWN = (1, 2, 3, 5, 8, 12)
"""Lowest temporal frequencies, by number, whose share of the power is shown."""


@dataclass(frozen=True)
class _Row:
    site: str
    words: str
    share: float
    trial: Trial
    control: Trial

    @property
    def ratio(self) -> Ratio | None:
        """Error over the control's, image by image."""
        return None if self.trial is self.control else paired_ratio(self.trial.errors, self.control.errors)


def find(lab: Lab) -> Finding:
    """Spectra of every site; filtered reuse; intervals by bandwidth at no more computing than equal intervals."""
    analysis = {site: analyzed(lab, site) for site in ("stack", "branch")}
    rows: list[_Row] = []
    even = fc.Interval(INTERVAL, anchor="first")
    for site in ("stack", "branch"):
        plain = lab.measure(fc.Method("H1", site, even, fc.Reuse()))
        share = plain.computed / lab.steps
        rows.append(_Row(site, f"reuse, every site at one step in {INTERVAL}", share, plain, plain))
        for edge in PASSED:
            filtered = lab.measure(fc.Method("H1", site, even, fc.LowPassed(fc.Reuse(), edge)))
            rows.append(_Row(site, f"low-passed reuse, frequencies up to {edge:g}", share, filtered, plain))
    schedule = analysis["branch"].schedule(INTERVAL)
    for words, predictor in (("reuse", fc.Reuse()), ("lines", fc.Newton(1))):
        control = lab.measure(fc.Method("H1", "branch", even, predictor))
        if words != "reuse":
            rows.append(_Row("branch", f"{words}, every site at one step in {INTERVAL}", share, control, control))
        own = lab.measure(fc.Method("H1", "branch", schedule, predictor))
        rows.append(_Row("branch", f"{words}, intervals by bandwidth", schedule.share(lab.steps), own, control))
    duels = [(row.ratio, row) for row in rows if row.ratio is not None]
    best, winner = min(duels, key=lambda duel: duel[0].mean)
    stack = analysis["stack"].sites[0].temporal
    few = max(1, round(0.16 * lab.steps))
    return Finding(
        name="H1",
        claim="trajectories are temporally low-frequency; a low-pass isolates the reusable part",
        built="`fouriercache.analyze`, schedule `PerSite`, predictor `LowPassed`",
        verdict=judge(best, is_default=False),
        decided_by=(
            f"The premise holds: the lowest {few} of {lab.steps} temporal frequencies have {sum(stack[:few]):.2%} of "
            f"the stack residual's power. The best use made of it, {winner.words} ({winner.site}), has {best} times "
            f"the error of its control without; {sum(ratio.is_larger for ratio, _ in duels)} of {len(duels)} uses are "
            "surely worse than theirs."
        ),
        tables=[_table(rows), _power_table(analysis), _site_table(analysis["branch"])],
        pictures=[
            Picture(
                "h1_temporal_power.png",
                "Share of power by temporal frequency",
                "cycles a step",
                "share of power",
                tuple((words, found.frequencies[1:], _mean(found)[1:]) for words, found in _kinds(analysis).items()),
                is_logarithmic=True,
            )
        ],
        notes=[
            "Temporal frequencies are those of a DCT-II over the steps; bands are radial, with edges "
            f"{', '.join(map(str, EDGES))}. A site's bandwidth is the frequency above which a tenth of its feature "
            "lies; intervals by bandwidth are in proportion to what the sampling theorem asks for, and compute no more "
            "than equal intervals."
        ],
    )


def _table(rows: list[_Row]) -> Table:
    return Table(
        "Computed share: of all sites' steps. Ratio: to the same predictor with no filter and equal intervals.",
        ("sites", "method", "computed share", "error", "ratio"),
        tuple((row.site, row.words, row.share, row.trial.mean, row.ratio) for row in rows),
        {"computed share": ".3f", "error": ".4f", "ratio": ".3f"},
    )


def _kinds(analysis: dict[str, fc.Analysis]) -> dict[str, fc.Analysis]:
    """The analyses of the stack, of attention and of MLPs."""
    branch = analysis["branch"]
    kinds = dict.fromkeys(site.kind for site in branch.sites)
    return {"stack residual": analysis["stack"]} | {kind: _of_kind(branch, kind) for kind in kinds}


def _of_kind(analysis: fc.Analysis, kind: str) -> fc.Analysis:
    sites = tuple(site for site in analysis.sites if site.kind == kind)
    return fc.Analysis(**{**vars(analysis), "sites": sites})


def _mean(analysis: fc.Analysis) -> list[float]:
    """The sites' mean share of power at each temporal frequency."""
    return [sum(values) / len(values) for values in zip(*(s.temporal for s in analysis.sites), strict=True)]


def _power_table(analysis: dict[str, fc.Analysis]) -> Table:
    headings = tuple(f"lowest {count}" for count in _SHOWN)
    bands = tuple(f"band {band}" for band in range(len(EDGES) + 1))
    rows = []
    for words, found in _kinds(analysis).items():
        mean = _mean(found)
        spatial = [sum(v) / len(v) for v in zip(*(site.spatial for site in found.sites), strict=True)]
        rows.append((words, *(sum(mean[:count]) for count in _SHOWN), *spatial))
    return Table(
        "Share of the power in the lowest temporal frequencies, and in each spatial band; means over the sites.",
        ("sites", *headings, *bands),
        tuple(rows),
        dict.fromkeys(headings, ".4f") | dict.fromkeys(bands, ".3f"),
    )


def _site_table(branch: fc.Analysis) -> Table:
    scaled = branch.schedule(INTERVAL).intervals
    bands = tuple(f"bandwidth, band {band}" for band in range(len(EDGES) + 1))
    return Table(
        "Bandwidths in cycles a step, of whole features and of each spatial band; the interval that the sampling "
        f"theorem asks for, and the one used above, which computes as much as one in {INTERVAL} everywhere.",
        ("site", "bandwidth", *bands, "interval", "used"),
        tuple(
            (site.name, site.bandwidth, *site.band_bandwidths, site.interval, used)
            for site, used in zip(branch.sites, scaled, strict=True)
        ),
        {"bandwidth": ".3f", "interval": "d", "used": "d"} | dict.fromkeys(bands, ".3f"),
    )
