"""The ceilings of this machine's processor, measured: there is no data sheet of it."""

from __future__ import annotations

import platform
import statistics
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from fouriercache.cost.devices import Device

_WORKING_SETS = tuple(3 * 4 * elements for elements in (2**16, 2**18, 2**20, 2**24))
"""Bytes that an addition touches, from what a core's own cache holds to what none holds."""


@torch.no_grad()
def measure_cpu(seconds: float = 0.3) -> Device:
    """Measure this processor, in float32, with the threads that torch has now; takes some three seconds.

    Matrix products and attention are of the sizes of a small transformer, bandwidths those of additions that make a
    new tensor each, and a launch is an addition of one number. Medians of what fits in `seconds` for each figure: what
    else the machine does now is in them.
    """
    tokens, weight = torch.randn(512, 1024), torch.randn(1024, 1024)
    peak = 2 * 512 * 1024 * 1024 / _median(lambda: F.linear(tokens, weight), seconds)
    heads = torch.randn(2, 8, 256, 64)
    attention = (
        4 * 2 * 8 * 256 * 256 * 64 / _median(lambda: F.scaled_dot_product_attention(heads, heads, heads), seconds)
    )
    number = torch.ones(1)
    launch = _median(lambda: number + number, seconds)
    bandwidths = [touched / max(_addition(touched, seconds) - launch, 1e-9) for touched in _WORKING_SETS]
    caches = tuple(zip(_WORKING_SETS[:-1], bandwidths[:-1], strict=True))
    name = platform.processor() or platform.machine()
    return Device(
        f"this CPU ({name}, {torch.get_num_threads()} threads)",
        {"float32": peak},
        bandwidths[-1],
        launch,
        attention=attention / peak,
        caches=caches,
        fused_norms=False,
        source="measured here by fouriercache.measure_cpu()",
    )


def _addition(touched: int, seconds: float) -> float:
    left: Tensor = torch.ones(touched // 12)
    right = torch.ones(touched // 12)
    return _median(lambda: left + right, seconds)


def _median(work: Callable[[], object], seconds: float) -> float:
    """Median seconds of a call, after one that is not counted."""
    work()
    times: list[float] = []
    ends = time.perf_counter() + seconds
    while len(times) < 3 or time.perf_counter() < ends:
        started = time.perf_counter()
        work()
        times.append(time.perf_counter() - started)
    return statistics.median(times)
