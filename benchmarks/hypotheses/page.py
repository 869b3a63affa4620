"""docs/evidence.md: verdicts, then a section for each hypothesis; the same as JSON; rows for the methods' pages."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from results import provenance

from .finding import Finding, Table
from .lab import CALIBRATION, Lab
from .pairs import Ratio
from .pictures import draw_pictures
from .presets_table import rows_for_page

WRITTEN = "<!-- Written by `make evidence`. Do not edit. -->"


def write_page(docs: Path, findings: Sequence[Finding], presets: Table | None, lab: Lab) -> None:
    """Write the page, the verdicts first, and its pictures."""
    docs.mkdir(parents=True, exist_ok=True)
    draw_pictures(docs / "images" / "evidence", findings)
    verdicts = Table(
        "Adopted: part of the library's own method, or of how everything runs. Optional: helps against its control, "
        "and is there to be switched on. Refuted: does not help against its control. Open: not decided by what was "
        "measured.",
        ("", "hypothesis", "verdict", "decided by"),
        tuple((f.name, f.claim, f.verdict, f.decided_by) for f in findings),
    )
    facts = "\n".join(f"- {key}: {value}" for key, value in facts_of(lab).items())
    parts = [WRITTEN, "# The evidence", _about(lab), "## Verdicts", verdicts.markdown()]
    parts += [finding.markdown() for finding in findings]
    if presets is not None:
        parts += ["## Every preset", presets.markdown()]
    parts += ["## Where these numbers come from", facts]
    (docs / "evidence.md").write_text("\n\n".join(parts) + "\n")


def write_results(folder: Path, findings: Sequence[Finding], presets: Table | None, lab: Lab) -> None:
    """Write evidence.json: every row of every table, and where it comes from."""
    found = {
        "benchmark": "evidence",
        **facts_of(lab),
        "held out": asdict(lab.held_out),
        "more held out": asdict(lab.more),
        "calibration": asdict(CALIBRATION),
        "findings": [asdict(finding) for finding in findings],
        "presets": None if presets is None else asdict(presets),
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "evidence.json").write_text(json.dumps(found, indent=1, default=_plain) + "\n")


def write_method_rows(docs: Path, own: Mapping[str, Table]) -> None:
    """Write the rows of each preset where its page includes them."""
    folder = docs / "methods" / "measured"
    folder.mkdir(parents=True, exist_ok=True)
    for name, table in own.items():
        (folder / f"{name.lower()}.inc").write_text(rows_for_page(table))


def facts_of(lab: Lab) -> dict[str, Any]:
    """Where the numbers come from."""
    about = {name: value for name, value in provenance().items() if name != "commit"}
    return {**about, "package at commit of each run": ", ".join(lab.commits())}


def _about(lab: Lab) -> str:
    images = lab.held_out
    return (
        "Does the Fourier transform help feature caching, and where? Every hypothesis of the field is built as a part "
        "of the package and measured against its honest control: the same computed steps, no more bytes, no transform. "
        f"The model is the shipped class-conditional DiT, {lab.steps} steps of DDIM, guidance {images.guidance:g}. "
        f"Errors are relative L2 distances of final images to the uncached ones, means over held-out images: "
        f"{images.count} of {len(images.seeds)} noise seed for a hypothesis, {lab.more.count} of {len(lab.more.seeds)} "
        f"for the library's own method, each of {len(images.classes)} classes (calibration saw "
        f"{len(CALIBRATION.classes)} of the classes, and other seeds). Ratios are geometric means over pairs of "
        "images, with 95 % confidence intervals by Student's t; *surely* means that the whole interval lies on one "
        "side of 1. One small model in pixel space: expect signs, not sizes, to carry over."
    )


def _plain(value: object) -> object:
    if isinstance(value, Ratio):
        return asdict(value)
    raise TypeError(f"not for JSON: {value!r}")
