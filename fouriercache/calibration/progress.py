"""Progress bars of a calibration, on stderr."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import TaskID


class Bars:
    """One bar for each phase, made when the phase begins; nothing is shown when `is_shown` is false."""

    def __init__(self, is_shown: bool) -> None:
        # here, so that `import fouriercache` asks for no more than torch, numpy and safetensors
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[note]}", style="dim"),
            console=Console(stderr=True),
            disable=not is_shown,
        )
        self._tasks: dict[str, TaskID] = {}

    def __enter__(self) -> Bars:
        self._progress.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._progress.stop()

    def begin(self, phase: str, total: int) -> None:
        """Show a phase of `total` runs of the calibration set."""
        self._tasks[phase] = self._progress.add_task(phase, total=total, note="")

    def advance(self, phase: str, note: str = "") -> None:
        """Count one run."""
        self._progress.update(self._tasks[phase], advance=1, note=note)

    def end(self, phase: str) -> None:
        """Say that no more runs follow, although fewer than planned were made."""
        task = self._tasks[phase]
        done = self._progress.tasks[self._progress.task_ids.index(task)].completed
        self._progress.update(task, total=done, completed=done)
