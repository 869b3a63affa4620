"""What a calibration has measured so far, kept in a file after each measurement, so that none is made twice."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from fouriercache.calibration.record import Recording
from fouriercache.errors import CalibrationError
from fouriercache.strict_files import read_tensors, write_tensors

_SCHEMA = "fouriercache.checkpoint/1"
Table = tuple[int, ...]


class Checkpoint:
    """Measurements of one model on one calibration set, for any number of methods.

    Attributes:
        recording: the uncached run, None until it has been made.
        path: the file, None to keep everything in memory.

    Raises CalibrationError when the file is another's, or cannot be read.
    """

    def __init__(self, path: Path | None, belongs_to: dict[str, Any]) -> None:
        self.path = path
        self.recording: Recording | None = None
        self._belongs_to = belongs_to
        self._numbers: dict[str, dict[str, float]] = {}
        if path is not None and path.exists():
            self._read(path)

    def keep_recording(self, recording: Recording) -> Recording:
        """Keep and return the uncached run."""
        self.recording = recording
        self._write()
        return recording

    def trials(self, method: str) -> Measured:
        """Return the closed-loop errors of a method by table; what is put in is kept."""
        return Measured(self._numbers.setdefault(f"trials of {method}", {}), self._write)

    def sensitivities(self, method: str, table: Table) -> dict[int, float]:
        """Return the sensitivities measured so far, by step."""
        return {int(step): value for step, value in self._sensitivities(method, table).items()}

    def keep_sensitivity(self, method: str, table: Table, step: int, value: float) -> None:
        """Keep one sensitivity."""
        self._sensitivities(method, table)[str(step)] = value
        self._write()

    def other(self, *differences: str) -> CalibrationError:
        """Return the error that says in what this file differs from the calibration it was given to."""
        return CalibrationError(
            f"The checkpoint belongs to another calibration: not the same {', '.join(differences)}.\n"
            f"  file: {self.path}\n"
            "  Give checkpoint= another path, or delete the file to begin anew."
        )

    def _sensitivities(self, method: str, table: Table) -> dict[str, float]:
        return self._numbers.setdefault(f"sensitivities of {method} at {_text_of(table)}", {})

    def _write(self) -> None:
        if self.path is None:
            return
        about: dict[str, Any] = {"schema": _SCHEMA, "belongs_to": self._belongs_to, "numbers": self._numbers}
        tensors = {}
        if self.recording is not None:
            about["timesteps"] = list(self.recording.timesteps)
            tensors = {"gram": torch.from_numpy(self.recording.gram), "reference": self.recording.reference}
        write_tensors(self.path, about, tensors)

    def _read(self, path: Path) -> None:
        try:
            about, tensors = read_tensors(path)
            if not isinstance(about, dict) or about.get("schema") != _SCHEMA:
                raise ValueError(f"its schema is not {_SCHEMA!r}")
            belongs_to, self._numbers = about["belongs_to"], _checked(about["numbers"])
            if tensors:
                self.recording = Recording(
                    tensors["gram"].double().numpy(), tuple(map(float, about["timesteps"])), tensors["reference"]
                )
        except (KeyError, TypeError, ValueError, OSError) as error:
            raise CalibrationError(
                f"This is not a checkpoint that can be used: {error}\n  file: {path}\n"
                "  Delete it to begin anew, or give checkpoint= another path."
            ) from error
        if belongs_to != self._belongs_to:
            raise self.other(*(name for name, value in self._belongs_to.items() if belongs_to.get(name) != value))


class Measured(dict[Table, float]):
    """Errors by table; each new one is handed on to `write`'s file at once."""

    def __init__(self, kept: dict[str, float], write: Callable[[], None]) -> None:
        super().__init__({tuple(map(int, text.split())): error for text, error in kept.items()})
        self._kept, self._keep = kept, write

    def __setitem__(self, table: Table, error: float) -> None:
        super().__setitem__(table, error)
        self._kept[_text_of(table)] = error
        self._keep()


def _text_of(table: Table) -> str:
    return " ".join(map(str, table))


def _checked(numbers: object) -> dict[str, dict[str, float]]:
    if not isinstance(numbers, dict):
        raise ValueError("its numbers are no object")
    for part in numbers.values():
        if not isinstance(part, dict) or not all(type(value) in (int, float) for value in part.values()):
            raise ValueError("its numbers hold something else")
    return numbers
