"""docs/evidence.md: a table of verdicts, then a section for each hypothesis."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from results import provenance

from .finding import Finding, Table
from .lab import CALIBRATION, Lab


def write_page(folder: Path, findings: Sequence[Finding], lab: Lab) -> None:
    """Write the page, the verdicts first."""
    folder.mkdir(parents=True, exist_ok=True)
    verdicts = Table(
        "Adopted: part of the library's own method. Optional: helps, and is there to be switched on. Refuted: does not "
        "help against its honest control. Open: not decided by what was measured.",
        ("", "hypothesis", "verdict", "decided by"),
        tuple((f.name, f.claim, f.verdict, f.decided_by) for f in findings),
    )
    images = lab.held_out
    about = (
        "Does the Fourier transform help feature caching, and where? Every hypothesis of the field is built as a part "
        "of the package and measured against its honest control: the same computed steps, no more bytes, no transform. "
        f"The model is the shipped class-conditional DiT, {lab.steps} steps of DDIM, guidance {images.guidance:g}. "
        f"Errors are relative L2 distances of final images to the uncached ones, over {images.count} held-out images "
        f"({len(images.seeds)} noise seeds, {len(images.classes)} classes; {len(CALIBRATION.classes)} classes and "
        "other seeds were calibrated on). Ratios are geometric means over pairs of images with 95 % confidence "
        "intervals. One small model in pixel space: expect signs, not sizes, to carry over."
    )
    facts = "\n".join(f"- {key}: {value}" for key, value in provenance().items())
    parts = [
        "<!-- Written by `make evidence`. Do not edit. -->",
        "# The evidence",
        about,
        verdicts.markdown(),
        *(finding.markdown() for finding in findings),
        "## Where these numbers come from",
        facts,
    ]
    (folder / "evidence.md").write_text("\n\n".join(parts) + "\n")
