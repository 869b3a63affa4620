"""What commands say, and where: results on stdout, everything else on stderr."""

from __future__ import annotations

import json
from typing import Any

import typer
from rich.console import Console, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.status import Status


def say(message: str) -> None:
    """Print a line on stderr."""
    Console(stderr=True, soft_wrap=True).print(message, markup=False, highlight=False)


def complain(message: str) -> None:
    """Print a line on stderr, in red."""
    Console(stderr=True, soft_wrap=True).print(message, style="red", markup=False, highlight=False)


def message_of(error: BaseException) -> str:
    """Return all that an error says: its message, and the notes that were added on its way."""
    return "\n".join([str(error), *getattr(error, "__notes__", ())])


def show(result: RenderableType) -> None:
    """Print a result for people on stdout."""
    Console().print(result)


def show_json(result: Any) -> None:
    """Print a result for programs on stdout."""
    typer.echo(json.dumps(result, indent=2, allow_nan=False))


def working(message: str) -> Status:
    """Show on stderr, as long as the context lasts, what is being done."""
    return Console(stderr=True).status(message)


class Bars:
    """Progress bars on stderr, one for each loop."""

    def __init__(self, labels: list[str], steps: int) -> None:
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[note]}", style="dim"),
            console=Console(stderr=True),
        )
        self._tasks = {label: self._progress.add_task(label, total=steps, note="") for label in labels}

    def __enter__(self) -> Bars:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def show(self, label: str, done: int, total: int) -> None:
        """Move the bar called `label`."""
        note = "" if done < total else "done"
        self._progress.update(self._tasks[label], completed=done, total=total, note=note)
