"""docs/evidence.md: verdicts, then a section for each hypothesis; the same as JSON; rows for the methods' pages.

The JSON holds all that the page shows, so some hypotheses can be measured anew and the others taken from it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from results import provenance

from .finding import Finding, Picture, Table
from .lab import Lab
from .own_method import BANDS, FITTED, TABLE
from .pairs import Ratio
from .pictures import draw_pictures
from .subjects import CALIBRATION

_PAGES = {
    "calibrated": ("H3", "kind", ("control", "fitted scalars")),
    "prony": ("H3", "predictor", ("order 2", "complex exponentials (Prony), order 2")),
    "triggers": ("H7", "drives", ("Newton(2)",)),
}
"""Pages of methods that are no presets: the finding whose first table has their rows, and which rows those are."""

WRITTEN = "<!-- Written by `make evidence`. Do not edit. -->"


@dataclass(frozen=True)
class Found:
    """All that the page shows: every hypothesis, the table of the presets, and the package's commits of its runs."""

    findings: Sequence[Finding]
    presets: Table | None = None
    presets_commits: str = ""

    def with_newer(self, newer: Found, names: Iterable[str]) -> Found:
        """Return this with what `newer` has in the place of its own, in the order of `names`."""
        by_name = {finding.name: finding for finding in [*self.findings, *newer.findings]}
        findings = [by_name[name] for name in names if name in by_name]
        if newer.presets is None:
            return replace(self, findings=findings)
        return replace(newer, findings=findings)


def write_page(docs: Path, found: Found, lab: Lab) -> None:
    """Write the page, the verdicts first, and its pictures."""
    findings, presets = found.findings, found.presets
    docs.mkdir(parents=True, exist_ok=True)
    draw_pictures(docs / "images" / "evidence", findings)
    verdicts = Table(
        "Adopted: part of the library's own method, or of how everything runs. Optional: helps against its control, "
        "and is there to be switched on. Refuted: does not help against its control, or only against one with a "
        "transform and not against none. Open: not decided by what was measured.",
        ("", "hypothesis", "verdict", "decided by"),
        tuple((f.name, f.claim, f.verdict, f.decided_by) for f in findings),
    )
    facts = "\n".join(f"- {key}: {value}" for key, value in _facts(found).items())
    parts = [WRITTEN, "# The evidence", _about(lab), *_before_fourier(findings), "## Verdicts", verdicts.markdown()]
    parts += [finding.markdown() for finding in findings]
    if presets is not None:
        parts += ["## Every preset", presets.markdown()]
    parts += ["## Where these numbers come from", facts]
    (docs / "evidence.md").write_text("\n\n".join(parts) + "\n")


def write_results(folder: Path, found: Found, lab: Lab) -> None:
    """Write evidence.json: every row of every table, and where it comes from."""
    written = {
        "benchmark": "evidence",
        **_facts(found),
        "held out": asdict(lab.held_out),
        "more held out": asdict(lab.more),
        "calibration": asdict(CALIBRATION),
        **asdict(found),
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "evidence.json").write_text(json.dumps(written, indent=1, default=_plain) + "\n")


def read_results(folder: Path) -> Found:
    """Read what `write_results` wrote.

    Raises:
        FileNotFoundError: nothing was written there.
        KeyError, TypeError: something else stands there.
    """
    known = json.loads((folder / "evidence.json").read_text())
    presets = known["presets"]
    return Found(
        [_finding(one) for one in known["findings"]],
        None if presets is None else _table(presets),
        known["presets_commits"],
    )


def write_method_rows(docs: Path, found: Found) -> None:
    """Write the rows of each method where its page includes them."""
    tables = {}
    if found.presets is not None:
        for name in dict.fromkeys(row[0] for row in found.presets.rows[1:]):  # the first row is the uncached model's
            own = [row for row in found.presets.rows if row[0] == name]
            tables[name.lower()] = replace(found.presets, rows=tuple(own)).without("method")
    by_name = {finding.name: finding for finding in found.findings}
    for page, (name, heading, words) in _PAGES.items():
        if name in by_name and by_name[name].tables:
            tables[page] = by_name[name].tables[0].of(heading, *words)
    folder = docs / "methods" / "measured"
    folder.mkdir(parents=True, exist_ok=True)
    for page, table in tables.items():
        (folder / f"{page}.inc").write_text(f"{table.bare()}\n")


def _facts(found: Found) -> dict[str, str]:
    """Where the numbers come from."""
    commits = {finding.name: finding.commits for finding in found.findings}
    if found.presets is not None:
        commits["every preset"] = found.presets_commits
    about = {name: value for name, value in provenance().items() if name not in ("commit", "began")}
    return {**about, **{f"package at commit of the runs of {name}": value for name, value in commits.items()}}


def _about(lab: Lab) -> str:
    images = lab.held_out
    return (
        "Does the Fourier transform help feature caching, and where? Every hypothesis of the field is built as a part "
        "of the package and measured against its honest control: the same computed steps, no more bytes, and "
        "without what the hypothesis adds. "
        f"The model is the shipped class-conditional DiT, {lab.steps} steps of DDIM, guidance {images.guidance:g}. "
        f"Errors are relative L2 distances of final images to the uncached ones, means over held-out images: "
        f"{images.count} of {len(images.seeds)} noise seed for a hypothesis, {lab.more.count} of {len(lab.more.seeds)} "
        f"for the library's own method, each of {len(images.classes)} classes (calibration saw "
        f"{len(CALIBRATION.classes)} of the classes, and other seeds). Ratios are geometric means over pairs of "
        "images, with 95 % confidence intervals by Student's t; *surely* means that the whole interval lies on one "
        "side of 1. One small model in pixel space, and "
        "for H5 and half of H8 one small video model, whose samples their sections name: expect signs, not sizes, to "
        "carry over."
    )


def _before_fourier(findings: Sequence[Finding]) -> list[str]:
    """What calibration alone gives, and what Fourier adds to it: rows of the own method's table of parts, in words."""
    tables = [table for finding in findings for table in finding.tables if "ratio to above" in table.headings]
    rows = [row for table in tables for row in table.rows]
    lines = []
    for computed in dict.fromkeys(row[0] for row in rows):
        by_part = {row[1]: row for row in rows if row[0] == computed}
        (_, _, error, step, _), fitted, bands = by_part[TABLE], by_part[FITTED][3], by_part[BANDS][3]
        lines.append(
            f"- At {computed} computed steps the calibrated step table has {step} times the error of as many even "
            f"steps, and leaves {error:.4f}. Scalars fitted on top of it have {fitted} times that error. Fitted in "
            f"four spatial bands, the only part with a transform, they have {bands} times the error without bands."
        )
    about = "Calibration alone comes first: the library's own method without and with a Fourier transform in it."
    return ["## What calibration alone gives, and what Fourier adds", about, "\n".join(lines)] if lines else []


def _finding(known: dict[str, Any]) -> Finding:
    tables = [_table(table) for table in known["tables"]]
    pictures = [Picture(**{**one, "series": tuple(map(tuple, one["series"]))}) for one in known["pictures"]]
    return Finding(**{**known, "tables": tables, "pictures": pictures})


def _table(known: dict[str, Any]) -> Table:
    rows = tuple(tuple(map(_cell, row)) for row in known["rows"])
    return Table(known["caption"], tuple(known["headings"]), rows, known["formats"])


def _cell(known: Any) -> Any:
    if isinstance(known, dict):
        return Ratio(**known)
    return tuple(known) if isinstance(known, list) else known


def _plain(value: object) -> object:
    if isinstance(value, Ratio):
        return asdict(value)
    raise TypeError(f"not for JSON: {value!r}")
