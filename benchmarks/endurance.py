"""A thousand trajectories in one process: whether anything grows, and whether the last are as fast as the first.

A small model serves requests whose prompts and batch sizes change, by the drop-in module, by one session for all and by
a session for each, with a static and with an adaptive schedule. The requests come round in the same order again, so the
last hundred trajectories are the very work of the first hundred.
"""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from common import BATCH, CLASSES, QUICK, Denoiser, Inputs, Model, Shape, build_model, read_arguments
from measure import resident
from results import Check, Column, Result, Row
from torch import Tensor

import fouriercache as fc

STEPS = 8
ROUND = 20
"""Different requests; a hundred trajectories are five rounds of them."""
METHODS = {
    "static": fc.TaylorSeer(interval=3, order=1),
    "adaptive": fc.TeaCache(threshold=0.2),
}
MOST_BYTES, MOST_OBJECTS, MOST_SLOWER = 1024, 0.1, 1.05
"""Bytes of resident memory, and objects, for each trajectory; CPU time of the last ones over the first ones."""

ABOUT = (
    "Each way serves a hundred trajectories to warm up, then as many as the table says, of {steps} steps each. "
    "*Before* and *after* are those: resident memory after garbage collection, with free memory given back to the "
    "system; live tensors and objects, as Python's garbage collector has them; bytes of the cache. *CPU time* is that "
    "of this process for a hundred trajectories; *last over first* compares how it stands to that of the model itself, "
    "which serves the same requests in turns, so that what else the machine does falls on both: the median of "
    "the last hundred over that of the first. *Middle over first* is the same for the hundred in the middle: how much "
    "two hundreds differ by chance. *Same result*: the last round gives the first round's latents bit for "
    "bit.\n\n"
    "How much noise is allowed, and why. No tensor and no byte of the cache may be added: their counts are exact. Of "
    "Python objects one may be added in ten trajectories: a leak of one object for each would be ten times that, and "
    "caches of answers, which are bounded, fill a little later than after a hundred. Resident memory may grow by 1 KiB "
    "a trajectory: the smallest feature that could be kept has {feature:,d} bytes, and less is what the allocator's "
    "pages and arenas move by. CPU time may be 5 % longer: what the clock says of the same work on a shared machine."
)
COLUMNS = (
    Column("way", "way"),
    Column("schedule", "schedule"),
    Column("trajectories", "trajectories", ",d"),
    Column("computed", "computed steps", ".2f"),
    Column("resident_before", "resident before, MiB", ".2f"),
    Column("resident_after", "after", ".2f"),
    Column("tensors_before", "tensors before", ",d"),
    Column("tensors_after", "after", ",d"),
    Column("objects_before", "objects before", ",d"),
    Column("objects_after", "after", ",d"),
    Column("cache_before", "cache before, bytes", ",d"),
    Column("cache_after", "after", ",d"),
    Column("first", "CPU of the first hundred, s", ".2f"),
    Column("last", "of the last", ".2f"),
    Column("middle_over_first", "middle over first", ".3f"),
    Column("last_over_first", "last over first", ".3f"),
    Column("is_same", "same result"),
)


@dataclass(frozen=True)
class Way:
    """One way to serve a request: what is called for it, and the session that served the last one."""

    name: str
    open: Callable[[Inputs], Denoiser]
    session: Callable[[], Any]


def ways(fast: fc.OptimizedModule) -> Iterator[Way]:
    """The drop-in module, one session for all requests, a session for each that is prepared."""
    yield Way("drop-in", lambda _: fast, lambda: fast.session)
    one = fast.new_session()
    yield Way("one session", lambda _: one, lambda: one)
    newest = [one]

    def each(inputs: Inputs) -> Denoiser:
        newest[:] = [fast.new_session()]
        newest[0].prepare(inputs.timesteps)
        return newest[0]

    yield Way("a session each, prepared", each, lambda: newest[0])


def requests(shape: Shape) -> list[Inputs]:
    """Different noise, prompts and batch sizes: one, two and three samples."""
    found = []
    for number in range(ROUND):
        drawn = Inputs.draw(shape, STEPS, seed=number)
        batch = 1 + number % (BATCH + 1)
        noise = torch.cat([drawn.noise, drawn.noise.flip(0)])[:batch]
        found.append(replace(drawn, noise=noise, labels=(torch.arange(batch) + number) % CLASSES))
    return found


@torch.no_grad()
def serve(way: Way, inputs: Inputs) -> Tensor:
    """One trajectory; the latents at its end."""
    model, latents = way.open(inputs), inputs.noise
    for timestep in inputs.timesteps:
        stamp = torch.full((len(latents),), timestep)
        out = model(hidden_states=latents, timestep=stamp, class_labels=inputs.labels)
        latents = latents - out.sample / len(inputs.timesteps)
    return latents


def run(way: Way, work: list[Inputs], count: int, beside: Way | None = None) -> list[tuple[float, float]]:
    """CPU seconds of each of so many trajectories, and of the same request served `beside` it, right after."""
    seconds = []
    for number in range(count):
        inputs = work[number % len(work)]
        started = time.process_time()
        serve(way, inputs)
        between = time.process_time()
        if beside is not None:
            serve(beside, inputs)
        seconds.append((between - started, time.process_time() - between))
    return seconds


def census() -> tuple[int, int, int]:
    """Resident bytes, tensors and objects that are alive."""
    memory = resident()
    alive = gc.get_objects()
    return memory, sum(issubclass(type(one), Tensor) for one in alive), len(alive)


@contextmanager
def little_garbage() -> Iterator[None]:
    """Keep what is there already out of Python's full collections: they take time by the whole heap, when they like."""
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def measure(way: Way, model: Model, schedule: str, work: list[Inputs], hundreds: int, hundred: int) -> Row:
    """Warm up, take stock, serve, and take stock again."""
    plain = Way("the model itself", lambda _: model, lambda: None)
    timed = (0, hundreds // 2, hundreds - 1)
    first_round, computed = [], 0
    for inputs in work:
        first_round.append(serve(way, inputs))
        computed += len(way.session().computed_steps[0])
    run(way, work, hundred)
    memory, tensors, objects = census()
    cache = int(way.session().cache_bytes)
    with little_garbage():
        seconds = [run(way, work, hundred, plain if number in timed else None) for number in range(hundreds)]
    memory_after, tensors_after, objects_after = census()
    cache_after = int(way.session().cache_bytes)
    is_same = all(torch.equal(serve(way, one), was) for one, was in zip(work, first_round, strict=True))

    early, middle, late = (statistics.median(a / b for a, b in seconds[number]) for number in timed)
    row = {
        "way": way.name,
        "schedule": schedule,
        "trajectories": hundreds * hundred,
        "computed": computed / len(work),
        "resident_before": memory / 2**20,
        "resident_after": memory_after / 2**20,
        "tensors_before": tensors,
        "tensors_after": tensors_after,
        "objects_before": objects,
        "objects_after": objects_after,
        "cache_before": cache,
        "cache_after": cache_after,
        "first": sum(ours for ours, _ in seconds[0]),
        "last": sum(ours for ours, _ in seconds[-1]),
        "hundreds": [sum(ours for ours, _ in part) for part in seconds],
        "middle_over_first": middle / early,
        "last_over_first": late / early,
        "is_same": is_same,
    }
    print(row, flush=True)
    return row


def judge(rows: list[Row]) -> Iterator[Check]:
    """The worst row for each target."""

    def most(key: str) -> float:
        added: list[float] = [(row[f"{key}_after"] - row[f"{key}_before"]) / row["trajectories"] for row in rows]
        return max(added)

    yield Check("resident bytes added by a trajectory", most("resident") * 2**20, MOST_BYTES)
    yield Check("tensors added by a trajectory", most("tensors"), 0)
    yield Check("objects added by a trajectory", most("objects"), MOST_OBJECTS)
    yield Check("bytes of the cache added by a trajectory", most("cache"), 0)
    yield Check("CPU time, last over first", max(row["last_over_first"] for row in rows), MOST_SLOWER)
    yield Check("rows whose last round gives other latents than the first", sum(not row["is_same"] for row in rows), 0)


def main() -> None:
    asked = read_arguments(__doc__)
    hundreds, hundred = (3, ROUND) if asked.quick else (10, 100)
    model, work = build_model(QUICK), requests(QUICK)
    rows: list[Row] = []
    for schedule, method in METHODS.items():
        example = work[1].call(torch.zeros(BATCH, *work[1].noise.shape[1:]), 0) | {"class_labels": torch.arange(BATCH)}
        fast = fc.optimize(model, method, num_steps=STEPS, example_inputs=example)
        rows += [measure(way, model, schedule, work, hundreds, hundred) for way in ways(fast)]
    feature = 4 * QUICK.heads * QUICK.head_size * (QUICK.latent // 2) ** 2
    about = ABOUT.format(steps=STEPS, feature=feature)
    settings = {"model": QUICK.name, "steps": STEPS, "requests": ROUND, "trajectories": hundreds * hundred}
    title = f"{hundreds * hundred:,d} trajectories"
    Result("endurance", title, about, settings, COLUMNS, rows, list(judge(rows))).write(asked.out)


if __name__ == "__main__":
    main()
