"""Writing the demo's files: complete or not at all."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path

from fouriercache.report.data import DemoReport
from fouriercache.report.page import render_page

_PAGE = "report.html"
_RESULT = "results.json"


def prepare_folder(folder: Path) -> None:
    """Make `folder` if it is not there, and make sure that a file can be written into it.

    Raises:
        OSError: it is a file, it lies below one, or it may not be written; the message says which and what to do.
    """
    advice = "Give --out another folder."
    for place in (folder, *folder.parents):
        if place.exists():
            if not place.is_dir():
                raise NotADirectoryError(f"{place} is a file, not a folder. {advice}")
            break
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise PermissionError(f"Cannot write into {folder}: {error.strerror}. {advice}") from error


def write_report(report: DemoReport, folder: Path) -> Path:
    """Write the page and the JSON result into `folder`, which exists; return the page's path."""
    _write(folder / _RESULT, json.dumps(report.as_dict(), indent=2, allow_nan=False) + "\n")
    _write(folder / _PAGE, render_page(report))
    return folder / _PAGE


def _write(path: Path, text: str) -> None:
    """Write beside `path` and rename, so that a reader finds the old file or the new one, never half of one."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
