"""H9: a Fourier transform costs next to nothing, or can be made to."""

from __future__ import annotations

import json
from typing import Any

import spectral_cost

from .finding import Finding, Table
from .ingredients import write_whole
from .lab import Lab


def find(lab: Lab) -> Finding:
    """Run `spectral_cost` and read its table: each node over the step that it helps to save, and over `torch.fft`."""
    found = _measured(lab)
    rows = found["rows"]
    shares = [row["step_percent"]["median"] for row in rows]
    slower = [row for row in rows if row["over_fft"] and row["over_fft"]["median"] > 1]
    compared = [row for row in rows if row["over_fft"]]
    worst = max(rows, key=lambda row: row["step_percent"]["median"])
    return Finding(
        name="H9",
        claim="the transform's cost is negligible, or can be made so",
        built="`fft_compress` and `fft_expand`, lowered to one matrix product an axis",
        verdict="adopted" if max(shares) <= 100 * spectral_cost.LARGEST_SHARE else "refuted",
        decided_by=(
            f"A node takes at most {max(shares):.3f} % of the full step that a cached one saves ({worst['node']} on "
            f"{worst['grid']} tokens; limit {100 * spectral_cost.LARGEST_SHARE:g} %); as matrix products it is slower "
            f"than `torch.fft` in {len(slower)} of {len(compared)} cases."
        ),
        tables=[
            Table(
                f"{found['about']} {found['settings']['model']}, batch {found['settings']['batch']}, on one thread.",
                ("grid", "node", "product, ms", "torch.fft, ms", "product / torch.fft", "share of the step, %"),
                tuple(
                    (
                        row["grid"],
                        row["node"],
                        _median(row["ms"]),
                        _median(row["fft_ms"]),
                        _median(row["over_fft"]),
                        _median(row["step_percent"]),
                    )
                    for row in rows
                ),
                {
                    "product, ms": ".3f",
                    "torch.fft, ms": ".3f",
                    "product / torch.fft": ".2f",
                    "share of the step, %": ".3f",
                },
            )
        ],
        notes=[
            "A stack site has one such node a step, branch sites two a block: the share of a method is that of a node "
            "times the number of its sites."
        ],
    )


def _measured(lab: Lab) -> Any:
    path = lab.folder / f"spectral cost {lab.steps}.json"
    if not path.is_file():
        lab.begin("  spectral nodes and steps, in turns")
        result = spectral_cost.collect(is_quick=lab.is_quick)
        write_whole(path, json.dumps(result.as_dict()))
    return json.loads(path.read_text())


def _median(spread: Any) -> float | None:
    return None if spread is None else spread["median"]
