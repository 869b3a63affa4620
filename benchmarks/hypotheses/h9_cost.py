"""H9: a Fourier transform costs next to nothing, or can be made to."""

from __future__ import annotations

import json
from typing import Any

import spectral_cost

from .finding import Finding, Table
from .ingredients import write_whole
from .lab import Lab

_LIMIT = 100 * spectral_cost.LARGEST_SHARE
_COLUMNS = (
    ("grid", "grid", ""),
    ("node", "node", ""),
    ("ms", "node, ms", ".3f"),
    ("plain_ms", "without transform, ms", ".3f"),
    ("fft_ms", "torch.fft, ms", ".3f"),
    ("over_fft", "product / torch.fft", ".2f"),
    ("step_percent", "extra, share of the step, %", ".3f"),
    ("most", "most in a step", "d"),
    ("all_percent", "all of them, %", ".2f"),
)


def find(lab: Lab) -> Finding:
    """Run `spectral_cost` and read its table: each node over the step that it helps to save, and over `torch.fft`."""
    found = _measured(lab)
    rows = found["rows"]
    compared = [row for row in rows if row["over_fft"]]
    slower = [row for row in compared if row["over_fft"]["median"] > 1]
    of_presets, others = ([row for row in rows if row["is_in_preset"] is known] for known in (True, False))
    dearest = max(rows, key=_all)
    return Finding(
        name="H9",
        claim="the transform's cost is negligible, or can be made so",
        built=(
            "`fft_compress` and `fft_expand`, lowered to one matrix product an axis; with them or as such products, "
            "`Banded`, `Filtered`, `BandLimited`, `BandEnergy` and `LowPassShare`"
        ),
        verdict="refuted" if any(map(_is_above, of_presets)) else "adopted",
        decided_by=(
            f"Of the nodes that presets have, {_worst(of_presets)}; of the others, which are options, "
            f"{_worst(others)}. The limit is {_LIMIT:g} %; above it {_above(rows)}. As many as a step can have take at "
            f"most {_all(dearest):.2f} % ({dearest['most']} of {dearest['node']} on {dearest['grid']} tokens). "
            f"Transforms as matrix products are slower than `torch.fft` in {len(slower)} of {len(compared)} cases."
        ),
        tables=[
            Table(
                f"{found['about']} {found['settings']['model']}, batch {found['settings']['batch']}, on one thread.",
                tuple(heading for _, heading, _ in _COLUMNS),
                tuple(tuple(_median(row[key]) for key, _, _ in _COLUMNS) for row in rows),
                {heading: form for _, heading, form in _COLUMNS if form},
            )
        ],
        notes=[
            "The share of a method is that of a node times the number of them in its step. Attention whose map a score "
            "reads is computed with an explicit softmax; that is no cost of the transform, and stands in neither time."
        ],
    )


def _share(row: Any) -> float:
    return float(row["step_percent"]["median"])


def _all(row: Any) -> float:
    return float(row["all_percent"]["median"])


def _is_above(row: Any) -> bool:
    return _share(row) > _LIMIT


def _worst(rows: list[Any]) -> str:
    row = max(rows, key=_share)
    return f"one takes at most {_share(row):.3f} % of a full step ({row['node']} on {row['grid']} tokens)"


def _above(rows: list[Any]) -> str:
    return (
        ", ".join(f"{row['node']} on {row['grid']} ({_share(row):.2f} %)" for row in rows if _is_above(row)) or "none"
    )


def _measured(lab: Lab) -> Any:
    path = lab.folder / f"spectral nodes {lab.steps}.json"
    if not path.is_file():
        lab.begin("  spectral nodes and steps, in turns")
        result = spectral_cost.collect(is_quick=lab.is_quick)
        write_whole(path, json.dumps(result.as_dict()))
    return json.loads(path.read_text())


def _median(value: Any) -> Any:
    return value["median"] if isinstance(value, dict) else value
