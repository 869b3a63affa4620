"""What a benchmark asks of the device that it runs on: time, memory, how often the host waits, and what it is."""

from __future__ import annotations

import re
import subprocess
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any, Protocol

import torch

import fouriercache as fc
from fouriercache.cost import DEVICES

_SHEETS = {
    "a100": {"A100", "80GB"},
    "h100": {"H100", "HBM3"},
    "h200": {"H200"},
    "b200": {"B200"},
    "l40s": {"L40S"},
    "rtx4090": {"RTX", "4090"},
}
"""Data sheets, by the words that the GPU's name must have."""


class Chip(Protocol):
    """A device: one GPU, or the CPU."""

    device: torch.device

    def facts(self) -> dict[str, str]:
        """What a reader must know of it."""
        ...

    def sheet(self) -> fc.Device | None:
        """Its ceilings for the cost model; None when there is no data sheet of it."""
        ...

    def wait(self) -> None:
        """Let the host wait until all is done."""
        ...

    def mark(self) -> Any:
        """A point in time between what was enqueued and what will be."""
        ...

    def between(self, marks: Sequence[Any]) -> list[float]:
        """Seconds from each mark to the next, once all is done."""
        ...

    def peak(self, work: Callable[[], object]) -> int | None:
        """Bytes that are allocated at most while `work` runs, over what was before; None if nobody counts."""
        ...

    def waits(self, work: Callable[[], object]) -> int | None:
        """How often the host waits for the device while `work` runs; None if nobody counts."""
        ...


def find_sheet(gpu: str) -> fc.Device | None:
    """Return the data sheet of a GPU of that name; None when there is none."""
    words = set(re.split(r"[\s-]+", gpu))
    return next((DEVICES[name] for name, asked in _SHEETS.items() if asked <= words), None)


class Gpu:
    """torch's current CUDA device."""

    def __init__(self) -> None:
        self.device = torch.device("cuda", torch.cuda.current_device())

    def facts(self) -> dict[str, str]:
        known = torch.cuda.get_device_properties(self.device)
        asked = "driver_version,power.limit,clocks.max.sm"
        return {
            "GPU": known.name,
            "memory": f"{known.total_memory / 2**30:.1f} GiB",
            "multiprocessors": str(known.multi_processor_count),
            "capability": f"{known.major}.{known.minor}",
            "CUDA": str(torch.version.cuda),
            "driver, power limit, highest clock": _ask("nvidia-smi", f"--query-gpu={asked}", "--format=csv,noheader"),
        }

    def sheet(self) -> fc.Device | None:
        return find_sheet(torch.cuda.get_device_properties(self.device).name)

    def wait(self) -> None:
        torch.cuda.synchronize(self.device)

    def mark(self) -> torch.cuda.Event:
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def between(self, marks: Sequence[torch.cuda.Event]) -> list[float]:
        return [one.elapsed_time(other) / 1e3 for one, other in pairwise(marks)]

    def peak(self, work: Callable[[], object]) -> int:
        self.wait()
        before = torch.cuda.memory_allocated(self.device)
        torch.cuda.reset_peak_memory_stats(self.device)
        work()
        self.wait()
        return torch.cuda.max_memory_allocated(self.device) - before

    def waits(self, work: Callable[[], object]) -> int:
        with warnings.catch_warnings(record=True) as found:
            warnings.simplefilter("always")
            torch.cuda.set_sync_debug_mode("warn")
            try:
                work()
            finally:
                torch.cuda.set_sync_debug_mode("default")
        return sum("called a synchronizing" in str(one.message) for one in found)


class Cpu:
    """This processor: everything runs, and what a GPU alone can tell is None."""

    device = torch.device("cpu")

    def facts(self) -> dict[str, str]:
        return {"GPU": "none: this run shows that the script works, and no more"}

    def sheet(self) -> fc.Device:
        found = fc.measure_cpu(0.02)
        return replace(found, peaks={**found.peaks, "bfloat16": found.peaks["float32"]})  # it is not measured apart

    def wait(self) -> None:
        """Nothing is ever left to do."""

    def mark(self) -> float:
        return time.perf_counter()

    def between(self, marks: Sequence[float]) -> list[float]:
        return [other - one for one, other in pairwise(marks)]

    def peak(self, work: Callable[[], object]) -> None:
        work()

    def waits(self, work: Callable[[], object]) -> None:
        work()


def _ask(*words: str) -> str:
    try:
        return subprocess.run(words, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "not told"
