"""What turns a bundle's ONNX files into engines for a target, beside them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fouriercache.bundle.manifest import Form


@dataclass(frozen=True)
class Job:
    """The bundle that engines are built for.

    Attributes:
        folder: with the ONNX files and their weights; engines are written to it. forms: what these files are.
        num_steps: of a trajectory, None if that is not known.
        counts: how many tokens each site computes afresh, for each step whose schedule is known.
        notice: told the name of each file that is about to be made. progress: told a file's name and how much of it is
            done, 0 to 1.
    """

    folder: Path
    forms: Sequence[Form]
    num_steps: int | None
    counts: Sequence[tuple[int, ...]]
    notice: Callable[[str], None]
    progress: Callable[[str, float], None]


Engine = Callable[[Job], Any]
"""Builds the engines, and returns what the manifest is to say of them, as plain data."""
