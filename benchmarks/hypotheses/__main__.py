"""Measure every hypothesis on the shipped model and write docs/evidence.md.

PYTHONPATH=benchmarks python -m hypotheses            # everything; what has been measured before is read again
PYTHONPATH=benchmarks python -m hypotheses --only H2  # some of it, printed and not written
PYTHONPATH=benchmarks python -m hypotheses --only H2 --write  # some of it; what was written before keeps the rest
PYTHONPATH=benchmarks python -m hypotheses --kept     # write the page from what was measured before, sampling nothing
PYTHONPATH=benchmarks python -m hypotheses --fresh    # forget what was measured before
"""

from __future__ import annotations

import argparse
import shutil
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import torch
from rich.console import Console

from . import (
    h1_temporal_spectra,
    h2_truncated_caches,
    h3_prediction,
    h4_tokens,
    h5_video,
    h7_spectral_difference,
    h8_noise,
    h9_cost,
    own_guidance,
    own_method,
)
from .finding import Finding, Table
from .lab import ROOT, Lab, NotMeasuredError
from .page import Found, read_results, write_method_rows, write_page, write_results
from .presets_table import measure_presets
from .subjects import HELD_OUT, MORE, Images

FINDERS: Mapping[str, Callable[[Lab], Finding]] = {
    "Tuned": own_method.find,
    "Guidance": own_guidance.find,
    "H1": h1_temporal_spectra.find,
    "H2": h2_truncated_caches.find,
    "H3": h3_prediction.find,
    "H4": h4_tokens.find_tokens,
    "H5": h5_video.find,
    "H6": h4_tokens.find_maps,
    "H7": h7_spectral_difference.find,
    "H8": h8_noise.find,
    "H9": h9_cost.find,
}

QUICK = Images(seeds=(1,), classes=tuple(range(5)))
"""For the tests: everything runs, no number means anything."""


def _find(name: str, lab: Lab) -> Finding:
    lab.take_commits()
    try:
        return replace(FINDERS[name](lab), commits=lab.take_commits())
    except NotMeasuredError as missing:
        claim = (sys.modules[FINDERS[name].__module__].__doc__ or "").partition(": ")[2].strip(".")
        return Finding(name, claim, "-", "open", f"Not measured yet: {missing}.")


def _presets(lab: Lab) -> Table | None:
    try:
        return measure_presets(lab)
    except NotMeasuredError:
        return None


def main() -> None:
    """Read the options, measure, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", choices=[*FINDERS, "presets"], help="these alone; they are printed")
    parser.add_argument("--write", action="store_true", help="with --only: put them in the place of what --out has")
    parser.add_argument("--quick", action="store_true", help="few images and steps: no number means anything")
    parser.add_argument("--fresh", action="store_true", help="forget what was measured before")
    parser.add_argument("--kept", action="store_true", help="measure nothing: write what is known from earlier runs")
    parser.add_argument("--work", type=Path, default=ROOT / "runs" / "evidence", help="where runs are kept")
    parser.add_argument("--docs", type=Path, default=ROOT / "docs", help="folder of evidence.md and its pictures")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results", help="folder of evidence.json")
    asked = parser.parse_args()
    if asked.fresh:
        shutil.rmtree(asked.work, ignore_errors=True)
    torch.set_num_threads(1)  # small products: more threads wait for each other, and results would depend on them
    console = Console(stderr=True, soft_wrap=True)
    images, more, steps = (QUICK, QUICK, 16) if asked.quick else (HELD_OUT, MORE, 50)
    lab = Lab(asked.work, steps=steps, images=images, more=more, notice=lambda text: console.print(text, style="dim"))
    lab.only_kept = asked.kept
    names = [*FINDERS, "presets"] if asked.only is None else asked.only
    began, findings = time.perf_counter(), list[Finding]()
    for number, name in enumerate(names, 1):
        console.print(f"{name} ({number} of {len(names)}, {(time.perf_counter() - began) / 60:.0f} minutes)")
        if name in FINDERS:
            findings.append(_find(name, lab))
    lab.take_commits()
    presets = _presets(lab) if "presets" in names else None
    found = Found(findings, presets, lab.take_commits() if presets else "")
    if asked.only is not None:
        shown = [finding.markdown() for finding in findings] + ([presets.markdown()] if presets else [])
        sys.stdout.write("\n\n".join(shown) + "\n")
        if not asked.write:
            return
        found = read_results(asked.out).with_newer(found, FINDERS)
    write_page(asked.docs, found, lab)
    write_method_rows(asked.docs, found)
    write_results(asked.out, found, lab)
    console.print(f"wrote {asked.docs / 'evidence.md'} and {asked.out / 'evidence.json'}")


if __name__ == "__main__":
    main()
