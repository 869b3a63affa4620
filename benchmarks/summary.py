"""Every target of every benchmark on one page, from what their last runs left: `benchmarks/results/README.md`.

Nothing is measured here, and nothing of the page is typed but the questions.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

QUESTIONS = {
    "Are whole loops as fast as they can be, and ahead of others, at less memory?": (
        "loop",
        "quality",
        "ort_loop",
        "codec_curve",
    ),
    "What does a cached step cost, and is a full step no slower than the model's own?": ("step_cost",),
    "How fast does a model start, and what memory does that take?": ("start_up",),
    "Does the cost model say what is measured?": ("cost", "cost_speedup", "cost_scaling"),
    "Are published speed-ups those of our graphs?": ("headlines",),
    "Does a process last?": ("endurance",),
    "And on a GPU?": ("gpu",),
}
"""What the benchmarks of speed, memory and cost answer. All others stand under `OTHERS`."""
OTHERS = "What else is measured"
PAGE = "README.md"
PLOTTED = frozenset({"loop", "ort_loop", "step_cost", "pass_scaling"})
"""Results that `plots` draws from their JSON."""

Found = Mapping[str, Any]


@dataclass(frozen=True)
class Target:
    """What was asked of a benchmark, and what it measured; `question` is the one it belongs to."""

    question: str
    benchmark: str
    what: str
    value: float
    limit: float
    is_met: bool
    commit: str


def read_results(folder: Path) -> dict[str, Found]:
    """The last result of each benchmark that has run and judges itself, by name."""
    found: dict[str, Found] = {}
    for path in sorted(folder.glob("*.json")):
        result = json.loads(path.read_text())
        if result.keys() >= {"began", "ended", "commit", "checks"}:
            found[path.stem] = result
    return found


def targets(results: Mapping[str, Found]) -> Iterator[Target]:
    """All of them, question by question."""
    for question, names in _by_question(results).items():
        for name in names:
            if name in results:
                commit = results[name]["commit"]
                for check in results[name]["checks"]:
                    yield Target(
                        question, name, check["what"], check["value"], check["limit"], check["met"], shorten(commit)
                    )


def shorten(commit: str) -> str:
    """Seven digits of a commit, and whether the sources were changed since."""
    digits, _, rest = commit.partition(" ")
    return f"{digits[:7]} {rest}".rstrip() if len(digits) == 40 else commit


def minutes(found: Found) -> float:
    """How long a run took."""
    began, ended = (datetime.fromisoformat(found[when]) for when in ("began", "ended"))
    return (ended - began).total_seconds() / 60


def as_page(folder: Path) -> str:
    """The whole page of a folder, with the pictures that are there."""
    results = read_results(folder)
    every = list(targets(results))
    met = sum(target.is_met for target in every)
    parts = [
        "<!-- Written by `python benchmarks --summary` and by every benchmark that runs. Do not edit. -->",
        "# What was measured, and what was asked",
        f"{met} of {len(every)} targets are met. Each run stands with its commit; times are of the machine that its "
        "own page names, so look at ratios. `python benchmarks --list` says what there is and how long it takes, "
        "`make bench` measures it all anew.",
    ]
    for question, names in _by_question(results).items():
        parts.append(f"## {question}")
        for name in names:
            if name not in results:
                parts.append(f"`{name}` has not been run.")
                continue
            found = results[name]
            parts.append(
                f"[{found['title']}]({name}.md): began {found['began'][:16].replace('T', ' ')} UTC, "
                f"{minutes(found):.1f} minutes, commit {shorten(found['commit'])}"
            )
            lines = ["| target | measured | limit | met |", "| :-- | --: | --: | :-- |"]
            lines += [
                f"| {target.what} | {target.value:.4g} | {target.limit:.4g} | {'yes' if target.is_met else '**no**'} |"
                for target in every
                if target.benchmark == name
            ]
            parts.append("\n".join(lines))
            pictures = [f"{name}.{form}" for form in ("svg", "png") if (folder / f"{name}.{form}").exists()]
            parts += [f"![{found['title']}]({picture})" for picture in pictures]
    return "\n\n".join(parts) + "\n"


def write_page(folder: Path) -> None:
    """Write the page of a folder's results, and draw those that have a picture in `plots`."""
    for name in PLOTTED & read_results(folder).keys():
        from plots import draw  # here, for gpu.py runs where there is no matplotlib

        draw(name, folder)
    (folder / PAGE).write_text(as_page(folder))


def _by_question(results: Mapping[str, Found]) -> dict[str, tuple[str, ...]]:
    asked = {name for names in QUESTIONS.values() for name in names}
    return QUESTIONS | {OTHERS: tuple(sorted(results.keys() - asked))}
