"""A whole denoising loop with 13 of 50 steps computed, side by side with other ways to cache the same model.

All rows take turns in one process, on the same weights and the same noise. What counts is the time over the ideal:
time over that of the uncached loop, divided by the computed share of the model. The computed share is counted
(attentions and MLPs that ran), not assumed; 1.0 would be a cache that costs nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any

import torch
from common import (
    FULL,
    QUICK,
    Denoiser,
    Inputs,
    Loop,
    Model,
    Shape,
    Spread,
    build_model,
    read_arguments,
    relative_error,
    share_weights,
    take_turns,
)
from launches import CountCalls, executed_share
from peers import (
    HOOKS,
    PAB,
    Peer,
    by_hand,
    cache_dit_block,
    cache_dit_default,
    first_block_cache,
    held_bytes,
    mag_cache,
    nothing,
    pyramid_attention_broadcast,
    sea_cache,
    taylorseer_hooks,
)
from results import Check, Column, Result
from thresholds import Recorded, find_first_block_threshold, find_sea_threshold
from torch import Tensor

import fouriercache as fc

LIMITS = {"stack": 1.02, "branch": 1.06, "attention": 1.06}
"""Targets for the time over the ideal, by kind of site, prepared or not."""
TURN = 10
"""Steps a row runs before the next one has its turn."""

HALF = "TaylorSeer order 1, bfloat16 kept"
METHODS: dict[str, Callable[..., fc.Method]] = {
    "FORA": fc.FORA,
    "TaylorSeer order 1": lambda **options: fc.TaylorSeer(order=1, warmup=1, **options),
    HALF: lambda **options: fc.TaylorSeer(order=1, warmup=1, codec=fc.Quantized("bfloat16"), **options),
}
COLUMNS = (
    Column("name", "loop"),
    Column("computed", "computed steps", ".2f"),
    Column("ratio", "time / uncached", ".3f"),
    Column("ideal", "ideal", ".3f"),
    Column("over_ideal", "time / ideal", ".3f"),
    Column("seconds", "loop, s", ".2f"),
    Column("cpu_seconds", "CPU time, s", ".2f"),
    Column("cache_mib", "features kept, MiB", ".2f"),
    Column("held_mib", "all that is held, MiB", ".2f"),
    Column("error", "error of final latents", ".2e"),
    Column("schedule", "schedule"),
)


@dataclass(frozen=True)
class Entry:
    """One row: what is called, what begins a trajectory, what it keeps of features and holds in all, which steps it
    computes.

    `limit` is the target for its time over the ideal, if it has one. `counted` is a row whose calls can be watched;
    a compiled one runs the schedule of its eager twin, `twin`.
    """

    name: str
    model: Denoiser
    begin: Callable[[], None]
    kept: Callable[[], int]
    held: Callable[[], int]
    schedule: str
    limit: float | None = None
    twin: str | None = None


def computed_steps(steps: int) -> tuple[int, ...]:
    """Steps 0, 2, 6, 10, ...: the schedule with 13 of 50 that diffusers' TaylorSeer hook can follow as well."""
    return (0, *range(2, steps, 4))


def uncached(name: str, model: Denoiser, twin: str | None = None) -> Entry:
    return Entry(name, model, nothing, lambda: 0, lambda: 0, "all", twin=twin)


def of_peer(peer: Peer) -> Entry:
    def held() -> int:
        return held_bytes(peer.holder)

    return Entry(peer.name, peer.model, peer.begin, held, held, peer.schedule)


def list_methods(steps: int, layers: int) -> dict[tuple[str, str], fc.Method]:
    """Our methods by kind of site and name; `attention` is branches of which MLPs are always computed."""
    table = fc.Table(computed_steps(steps))
    found = {
        (site, name): preset(site=site, schedule=table)
        for site, (name, preset) in product(("stack", "branch"), METHODS.items())
        if (site, name) != ("stack", HALF)  # the caches of branches are the large ones
    }
    every_fourth = fc.PerSite((4, 1) * layers)
    return found | {("attention", "FORA"): fc.FORA(site="branch", schedule=every_fourth)}


def of_ours(model: Model, inputs: Inputs, backend: str, *, prepared: tuple[bool, ...]) -> list[Entry]:
    steps = len(inputs.timesteps)
    entries = []
    for (site, method), chosen in list_methods(steps, len(model.transformer_blocks)).items():
        first = inputs.call(inputs.noise, 0)
        fast = fc.optimize(model, chosen, num_steps=steps, backend=backend, example_inputs=first)
        for is_prepared in prepared:
            session = fast.new_session()
            name = f"fouriercache {backend}, {site}, {method}"
            begin = (lambda session=session: session.prepare(inputs.timesteps)) if is_prepared else session.reset
            entries.append(
                Entry(
                    name + (", prepared" if is_prepared else ""),
                    session,
                    begin,
                    lambda session=session: session.cache_bytes,  # type: ignore[misc]
                    lambda session=session: session.held_bytes,  # type: ignore[misc]
                    "attention: steps 0, 4, 8, ..." if site == "attention" else "as given",
                    LIMITS[site],
                    None if backend == "eager" else f"fouriercache eager, {site}, {method}, prepared",
                )
            )
    return entries


def list_entries(model: Model, inputs: Inputs, *, with_inductor: bool) -> list[Entry]:
    """Every row, the uncached one first."""
    steps = len(inputs.timesteps)
    computed = computed_steps(steps)
    recorded = Recorded.of(model, lambda: run_once(uncached("uncached", model), inputs))
    sea_threshold = find_sea_threshold(recorded, len(computed))
    peers = [
        by_hand(model, computed),
        taylorseer_hooks(model),
        mag_cache(model, steps),
        sea_cache(model, sea_threshold, steps, order=0),
        sea_cache(model, sea_threshold, steps, order=1),
        first_block_cache(model, find_first_block_threshold(recorded, len(computed))),
        cache_dit_block(model, computed, steps, taylor=False),
        cache_dit_block(model, computed, steps, taylor=True),
        *([cache_dit_default(model, steps)] if len(model.transformer_blocks) > 8 else []),  # it refuses fewer
        pyramid_attention_broadcast(model),
    ]
    entries = [uncached("uncached", model), *map(of_peer, peers)]
    entries += of_ours(model, inputs, "eager", prepared=(False, True))
    if with_inductor:
        entries.append(uncached("torch.compile, uncached", torch.compile(share_weights(model)), twin="uncached"))
        entries += of_ours(model, inputs, "inductor", prepared=(True,))
    return entries


def run_once(entry: Entry, inputs: Inputs) -> Tensor:
    """Run one loop to its end; return its latents."""
    loop = Loop(entry.model, inputs, entry.begin)
    loop.advance(len(inputs.timesteps))
    return loop.latents


def count_computed(entries: list[Entry], inputs: Inputs, shape: Shape) -> dict[str, float]:
    """Computed steps of each row, counted while it runs; this warms everything up as well."""
    counts: dict[str, float] = {}
    for entry in entries:
        if entry.twin is None:
            with CountCalls() as calls:
                run_once(entry, inputs)
            counts[entry.name] = executed_share(calls, shape.layers)
        else:
            run_once(entry, inputs)
            counts[entry.name] = counts[entry.twin]
    return counts


def compare_with_peers(rows: Mapping[str, Mapping[str, Any]]) -> list[Check]:
    """Stack caches against the fastest that computes as many steps, branch caches against diffusers' TaylorSeer, those
    of attention alone against its PAB.
    """
    ours, half = rows["fouriercache eager, stack, FORA"], rows[f"fouriercache eager, branch, {HALF}"]
    dense, hooks = rows["fouriercache eager, branch, TaylorSeer order 1"], rows[HOOKS]
    attention = rows["fouriercache eager, attention, FORA"]
    peers = [row for name, row in rows.items() if "fouriercache" not in name and row["computed"] == ours["computed"]]
    fastest = min((row for row in peers if row is not hooks), key=lambda row: row["ratio"]["median"])
    return [
        Check(
            f"fouriercache eager, stack, FORA: time over that of {fastest['name']}",
            ours["ratio"]["median"] / fastest["ratio"]["median"],
            1.0,
        ),
        Check(
            f"fouriercache eager, attention, FORA: time over that of {PAB}",
            attention["ratio"]["median"] / rows[PAB]["ratio"]["median"],
            1.0,
        ),
        Check(f"{HALF}, branch: cache over that of {HOOKS}", half["cache_mib"] / hooks["cache_mib"], 0.5),
        Check(f"{HALF}, branch: error off from that in float32 by", abs(half["error"] / dense["error"] - 1), 0.02),
    ]


def main() -> None:
    asked = read_arguments(__doc__)
    shape, steps, rounds = (QUICK, 10, 1) if asked.quick else (FULL, 50, 5)
    model = build_model(shape)
    inputs = Inputs.draw(shape, steps)
    entries = list_entries(model, inputs, with_inductor=not asked.quick)
    computed = count_computed(entries, inputs, shape)
    seconds: dict[str, list[float]] = {entry.name: [] for entry in entries}
    cpu_seconds: dict[str, list[float]] = {entry.name: [] for entry in entries}
    latents: dict[str, Tensor] = {}
    kept: dict[str, int] = {}
    held: dict[str, int] = {}
    for number in range(rounds):
        # The uncached loop, which everything is compared with, stands in every round twice.
        order = [*entries[number % len(entries) :], *entries[: number % len(entries)]]
        again = uncached("uncached again", entries[0].model)
        order.insert((order.index(entries[0]) + len(order) // 2) % len(order), again)
        loops = [Loop(entry.model, inputs, entry.begin) for entry in order]
        take_turns(loops, TURN)
        for entry, loop in zip(order, loops, strict=True):
            seconds.setdefault(entry.name, []).append(sum(loop.seconds))
            cpu_seconds.setdefault(entry.name, []).append(sum(loop.cpu_seconds))
            latents[entry.name] = loop.latents
            kept[entry.name], held[entry.name] = entry.kept(), entry.held()
    given = len(computed_steps(steps))
    others = [e.name for e in entries if e.limit is None and computed[e.name] not in (given, steps)]
    reference = [(a + b) / 2 for a, b in zip(seconds["uncached"], seconds["uncached again"], strict=True)]
    result = Result(
        "loop",
        f"Denoising loops, {len(computed_steps(steps))} of {steps} steps computed",
        "Time of a loop over that of the uncached loop in the same round, beside the ideal: the share of the model "
        "that ran, as counted. The reference is the mean of two uncached loops in the round; where the row `uncached`, "
        "one of the two, is far from 1, the machine was not quiet and no ratio counts. "
        "Median and quartiles over the rounds; the loops of a round take turns of "
        f"{TURN} steps. FirstBlockCache and DBCache F1B0 compute block 0 in every step, DBCache as it comes the "
        "first 8, so their ideal is higher; PAB and rows of *attention* compute every MLP. "
        "SeaCache's threshold is the one at which it computes as many steps "
        "as are given, the last among them; its own limit of 2 cached steps in a row would compute more. Timesteps are "
        "views of one list, as in most pipelines, so cached steps know which are to come also where nothing is "
        "prepared. `prepare` and what is computed ahead are in the time, and in all that is held. Error: relative "
        "L2 of the final latents to the uncached loop's; the weights are random, so it compares ways of caching, not "
        "methods.",
        {"model": shape.name, "batch": 2, "steps": steps, "rounds": rounds, "turn": TURN, "dtype": "float32",
         "given computed steps": list(computed_steps(steps)),
         "not compared with stack caches, as they compute another number": others},
        COLUMNS,
    )  # fmt: skip
    for entry in entries:
        ratio = Spread.of([s / u for s, u in zip(seconds[entry.name], reference, strict=True)])
        ideal = computed[entry.name] / steps
        result.rows.append(
            {
                "name": entry.name,
                "computed": computed[entry.name],
                "ratio": ratio.as_dict(),
                "ideal": ideal,
                "over_ideal": ratio.times(1 / ideal).as_dict(),
                "seconds": Spread.of(seconds[entry.name]).as_dict(),
                "cpu_seconds": Spread.of(cpu_seconds[entry.name]).as_dict(),
                "cache_mib": kept[entry.name] / 2**20,
                "held_mib": held[entry.name] / 2**20,
                "error": relative_error(latents[entry.name], latents["uncached"]),
                "schedule": entry.schedule,
            }
        )
        if entry.limit is not None:
            result.checks.append(Check(f"{entry.name}: time over ideal", ratio.median / ideal, entry.limit))
    result.checks += compare_with_peers({row["name"]: row for row in result.rows})
    control = Spread.of([s / u for s, u in zip(seconds["uncached"], reference, strict=True)])
    result.checks.append(Check("the uncached loop against its own reference: off by", abs(control.median - 1), 0.03))
    result.write(asked.out)


if __name__ == "__main__":
    main()
