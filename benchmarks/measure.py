"""What benchmarks of the compiler itself measure with: seconds, memory, processes of their own, growth, shares."""

from __future__ import annotations

import ctypes
import gc
import json
import math
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fouriercache.cost import block_flops
from fouriercache.report import environment
from fouriercache.steps import StepPrograms, Steps


@dataclass(frozen=True)
class Seconds:
    """How long some work took: CPU seconds of the process, and seconds on the wall."""

    cpu: float
    wall: float


def timed(work: Callable[[], Any]) -> tuple[Seconds, Any]:
    """Run `work`; return how long it took and what it returned.

    What is there already is kept out of Python's garbage collection: its full rounds take time by the whole heap, and
    come when they like.
    """
    gc.collect()
    gc.freeze()
    started, started_cpu = time.perf_counter(), time.process_time()
    found = work()
    seconds = Seconds(time.process_time() - started_cpu, time.perf_counter() - started)
    gc.unfreeze()
    return seconds, found


def peak_memory() -> int:
    """Return the most bytes that this process has had, on systems that tell."""
    found = environment.peak_memory()
    assert found is not None
    return found


def resident() -> int:
    """Resident bytes of this process, without what could be freed."""
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def run_apart(script: str, *words: str) -> dict[str, Any]:
    """Run a script in a fresh process, and return the JSON that it prints last."""
    command = [sys.executable, str(Path(script).resolve()), *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join([Path(script).name, *words])} failed:\n{done.stderr}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def exponent(sizes: Sequence[float], seconds: Sequence[float]) -> float:
    """Slope of log time over log size, by least squares: 1 is linear."""
    x, y = [math.log(size) for size in sizes], [math.log(second) for second in seconds]
    mean_x, mean_y = sum(x) / len(x), sum(y) / len(y)
    return sum((a - mean_x) * (b - mean_y) for a, b in zip(x, y, strict=True)) / sum((a - mean_x) ** 2 for a in x)


def block_share(steps: Steps, *, prepared: bool = False) -> float:
    """Return what a cached step computes in the repeated blocks, of what a full step does, in percent.

    What depends on the prompt alone runs once and counts for neither.

    Args:
        prepared: whether what depends on the timestep alone has been computed, and does not count for the cached step.
    """
    blocks = [block.path for block in steps.canonical.blocks]

    def each_step(parts: StepPrograms) -> int:
        return block_flops(blocks, parts.timed, parts.moving)

    reuse = steps.modes["reuse"]
    left = block_flops(blocks, reuse.moving) if prepared else each_step(reuse)
    return 100 * left / each_step(steps.modes["compute"])
