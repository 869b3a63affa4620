"""The ceilings of this machine's processor, measured: there is no data sheet of it."""

from __future__ import annotations

import itertools
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fouriercache.cost.devices import Device

_WORKING_SETS = tuple(3 * 4 * elements for elements in (2**16, 2**18, 2**20, 2**22, 2**24))
"""Bytes that an addition touches, from what a core's own cache holds to what none holds."""
_FUNCTIONS: Mapping[str, Callable[[Tensor], Tensor]] = {
    "cos": torch.cos,
    "exp": torch.exp,
    "gelu": F.gelu,
    "gelu_tanh": partial(F.gelu, approximate="tanh"),
    "layer_norm": lambda rows: F.layer_norm(rows, rows.shape[-1:]),
    "rsqrt": torch.rsqrt,
    "sigmoid": torch.sigmoid,
    "silu": F.silu,
    "sin": torch.sin,
    "softmax": partial(torch.softmax, dim=-1),
    "tanh": torch.tanh,
}
"""Functions that a core computes more slowly than it moves their tensors."""
_ROWS, _WIDTH = 512, 384
"""Of what they are measured on."""
_CALLS, _VIEWS, _MODULES = 8, 4, 4
"""How many `_calls`, `_views` and `_modules` make."""


@torch.no_grad()
def measure_cpu(seconds: float = 0.3) -> Device:
    """Measure this processor, in float32, with the threads that torch has now; takes some five seconds.

    Matrix products, convolution and attention are of the sizes of a small transformer, bandwidths those of additions,
    and a launch is the mean over small calls of several kinds. They, views and calls of modules follow on work of a
    layer: that drives what they need out of a core's caches, and they then take several times as long as in a loop of
    their own. What arithmetic and functions take is without the launch, and the traffic that the model counts for them.
    Medians of what fits in `seconds` for each figure: what else the machine does now is in them.
    """
    launch = _median(_calls(), seconds) / _CALLS  # of what is measured here, one call over and over
    bandwidths = [touched / max(_addition(touched, seconds) - launch, 1e-9) for touched in _WORKING_SETS]
    caches = tuple(zip(_WORKING_SETS[:-1], bandwidths[:-1], strict=True))

    memory = Device("memory alone", {"float32": 1.0}, bandwidths[-1], caches=caches)

    def without_traffic(work: Callable[[], object], numbers: int, given: float = seconds) -> float:
        touched, whole = 4 * numbers, _median(work, given)
        return max(whole - launch - touched / memory.bandwidth_for(touched), whole / 10)

    tokens, weight = torch.randn(512, 1024), torch.randn(1024, 1024)
    peak = 2 * 512 * 1024 * 1024 / without_traffic(lambda: F.linear(tokens, weight), 2 * 512 * 1024 + 1024 * 1024)
    products = _products(peak, launch, seconds)
    heads = torch.randn(2, 256, 8, 64).transpose(1, 2)  # side by side, as a projection leaves them
    attend = partial(F.scaled_dot_product_attention, heads, heads, heads)
    attention = 4 * 2 * 8 * 256 * 256 * 64 / without_traffic(attend, 2 * heads.numel())
    image, filters = torch.randn(2, 64, 32, 32), torch.randn(64, 64, 3, 3)
    convolve = partial(F.conv2d, image, filters, padding=1)
    convolution = 2 * 9 * 64 * image.numel() / without_traffic(convolve, 2 * image.numel() + filters.numel())
    rows = torch.randn(_ROWS, _WIDTH)
    functions = {
        name: rows.numel() / without_traffic(partial(function, rows), 2 * rows.numel(), seconds / 3)
        for name, function in _FUNCTIONS.items()
    }
    name = platform.processor() or platform.machine()
    return Device(
        f"this CPU ({name}, {torch.get_num_threads()} threads)",
        {"float32": peak},
        bandwidths[-1],
        _after_work(_calls(), seconds) / _CALLS,
        attention=attention / peak,
        convolution=convolution / peak,
        caches=caches,
        functions=functions,
        view=_after_work(_views(), seconds) / _VIEWS,
        module=_after_work(_modules(), seconds) / _MODULES,
        products=products,
        overlaps=False,
        fused_norms=False,
        source="measured here by fouriercache.measure_cpu()",
    )


def _products(peak: float, launch: float, seconds: float) -> float:
    """Bytes/s of weights for two rows, one after the other of more than caches hold."""
    row, weights = torch.randn(2, 512), itertools.cycle(torch.randn(64, 1024, 512).unbind())
    for _ in range(64):
        F.linear(row, next(weights))
    whole = _median(lambda: F.linear(row, next(weights)), seconds)
    return 4 * 1024 * 512 / max(whole - launch - 2 * 2 * 1024 * 512 / peak, whole / 10)


def _calls() -> Callable[[], None]:
    """Small calls of several kinds."""
    row, weight = torch.ones(1, 16), torch.ones(16, 16)

    def calls() -> None:
        row + row
        F.linear(row, weight)
        F.silu(row)
        row * row
        torch.cat([row, row], dim=-1)
        F.layer_norm(row, (16,))
        torch.addcmul(row, row, row)
        row.sin()

    return calls


def _views() -> Callable[[], None]:
    rows = torch.ones(4, 16)

    def views() -> None:
        rows.view(2, 32)
        rows.unsqueeze(0)
        rows.transpose(0, 1)
        rows[:, :8]

    return views


def _modules() -> Callable[[], object]:
    """A module that calls three others, none of which computes."""
    return partial(nn.Sequential(nn.Identity(), nn.Identity(), nn.Identity()), torch.ones(4, 16))


def _after_work(calls: Callable[[], object], seconds: float) -> float:
    """Median seconds of calls that each time follow on a layer's product and its function."""
    tokens, weight = torch.randn(_ROWS, _WIDTH), torch.randn(4 * _WIDTH, _WIDTH)
    return _median(calls, seconds, lambda: F.silu(F.linear(tokens, weight)))


def _addition(touched: int, seconds: float) -> float:
    """Of two tensors of a third of these bytes each, to one that is there: new memory has a price of its own."""
    left, right, result = (torch.ones(touched // 12) for _ in range(3))
    return _median(lambda: torch.add(left, right, out=result), seconds)


def _median(work: Callable[[], object], seconds: float, before: Callable[[], object] = lambda: None) -> float:
    """Median seconds of a call, after one that is not counted; each follows on `before`, which is not counted."""
    work()
    times: list[float] = []
    ends = time.perf_counter() + seconds
    while len(times) < 3 or time.perf_counter() < ends:
        before()
        started = time.perf_counter()
        work()
        times.append(time.perf_counter() - started)
    return statistics.median(times)
