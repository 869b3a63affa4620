"""The rows of gpu.py: what each loop took, beside what the cost model says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from statistics import median
from typing import Any

import torch
from chips import Chip
from common import Spread
from gpu_loops import ByHand, Case, Entry, Timing, computed_steps, distance, run_loop
from results import Column

import fouriercache as fc

GRAPH_LAUNCH = 5e-7
"""Seconds for a call of an operator in a CUDA graph, for the cost model: a tenth of eager's; see docs/cost.md."""

COLUMNS = (
    Column("model", "model"),
    Column("batch", "batch", "d"),
    Column("name", "loop"),
    Column("full_ms", "full step, ms", ".2f"),
    Column("full_ratio", "over original", ".3f"),
    Column("predicted_full_ms", "predicted, ms", ".2f"),
    Column("cached_ms", "cached step, ms", ".3f"),
    Column("cached_percent", "cached / full, %", ".2f"),
    Column("host_ms", "host per step, ms", ".3f"),
    Column("ratio", "loop / uncached", ".3f"),
    Column("ideal", "ideal", ".3f"),
    Column("over_ideal", "time / ideal", ".3f"),
    Column("speedup", "speed-up", ".2f"),
    Column("predicted", "predicted", ".2f"),
    Column("waits", "waits in a step", ".2f"),
    Column("waits_checked", "looking for NaN", ".2f"),
    Column("peak_mib", "peak, MiB", ".1f"),
    Column("cache_mib", "features kept, MiB", ".1f"),
    Column("error", "error to uncached", ".2e"),
    Column("drift", "difference to eager", ".2e"),
)


def count_waits(case: Case, entry: Entry, chip: Chip, *, is_checked: bool) -> float | None:
    """How often the host waits in a step, on average, once a loop is under way; `is_checked`: looking for NaN."""
    if entry.fast is not None:
        entry.fast.check_finite = is_checked
        session = entry.fast.new_session()
        entry.fast.check_finite = False
        begin = lambda: session.prepare([float(t[0]) for t in case.on_host])  # noqa: E731
        entry = replace(entry, call=session, begin=begin)
    run_loop(case, entry, chip)
    begun = case.steps // 2
    run_loop(case, entry, chip, range(begun))
    rest = range(begun, case.steps)

    def go_on() -> None:
        with torch.no_grad():
            for step in rest:
                entry.call(**case.call(case.noise, step, on_host=entry.on_host))

    waits = chip.waits(go_on)
    return None if waits is None else waits / len(rest)


def describe(
    case: Case, entry: Entry, timings: Mapping[str, list[Timing]], chip: Chip, device: fc.Device | None
) -> dict[str, Any]:
    """The row of an entry; what it does not have is None."""
    mine, computed = timings[entry.name], computed_steps(case.steps)
    eager = [f"original, eager{again}" for again in ("", ", again")]
    uncached_total = [(a.total + b.total) / 2 for a, b in zip(*(timings[name] for name in eager), strict=True)]
    full = [median(timing.steps) for timing in timings[eager[0]]]
    same = [timing.total for timing in timings.get(entry.reference, [])] or uncached_total
    is_ours = entry.session is not None
    is_cached = bool(entry.kind) or isinstance(entry.call, ByHand)
    whole = [median([t for step, t in enumerate(one.steps) if step in computed or not is_cached]) for one in mine]
    reused = [median([t for step, t in enumerate(one.steps) if step not in computed]) for one in mine]
    ideal = len(computed) / case.steps if is_cached else 1.0
    row: dict[str, Any] = {
        "model": case.shape.name,
        "batch": len(case.noise),
        "name": entry.name,
        "full_ms": Spread.of(whole).times(1e3).as_dict(),
        "full_ratio": _ratio(whole, full),
        "cached_ms": Spread.of(reused).times(1e3).as_dict() if is_cached else None,
        "cached_percent": _ratio(reused, full, 100) if is_cached else None,
        "host_ms": Spread.of([one.host / case.steps for one in mine]).times(1e3).as_dict(),
        "ratio": _ratio([one.total for one in mine], uncached_total),
        "ideal": ideal,
        "over_ideal": _ratio([one.total for one in mine], same, 1 / ideal),
        "speedup": _ratio(uncached_total, [one.total for one in mine]),
        **_predict(entry, device),
        "waits": count_waits(case, entry, chip, is_checked=False),
        "waits_checked": count_waits(case, entry, chip, is_checked=True) if is_ours else None,
    }
    if is_ours:
        entry.session.reset()
    elif isinstance(entry.call, ByHand):
        entry.call.begin()
    peak = chip.peak(lambda: run_loop(case, entry, chip))
    twin = f"{entry.kind}, eager"
    row |= {
        "peak_mib": None if peak is None else peak / 2**20,
        "cache_mib": entry.session.cache_bytes / 2**20 if is_ours else None,
        "error": distance(mine[-1].latents, timings[eager[0]][-1].latents, case.noise),
        "drift": distance(mine[-1].latents, timings[twin][-1].latents, case.noise) if twin in timings else None,
    }
    return row


def _predict(entry: Entry, device: fc.Device | None) -> dict[str, Any]:
    """What the cost model says: milliseconds of a full step of the original, and the loop's speed-up by time.

    Nothing where fusion decides, which the model does not know, or where there is no data sheet.
    """
    if entry.fast is None or device is None or "inductor" in entry.backend:
        return {"predicted_full_ms": None, "predicted": None}
    cost = entry.fast.report.cost(device, prepared=True)
    assert cost.trajectory is not None
    if entry.backend == "cudagraphs":
        # against the original in eager, as measured: the launches of one, the graph of the other
        graph = entry.fast.report.cost(replace(device, launch=GRAPH_LAUNCH), prepared=True).trajectory
        assert graph is not None
        speedup = cost.trajectory.original.seconds / graph.cached.seconds
    else:
        speedup = cost.trajectory.speedup
    return {"predicted_full_ms": 1e3 * cost.modes["original"].seconds, "predicted": speedup}


def _ratio(values: Sequence[float], reference: Sequence[float], factor: float = 1.0) -> dict[str, float]:
    return Spread.of([v / r for v, r in zip(values, reference, strict=True)]).times(factor).as_dict()
