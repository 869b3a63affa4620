"""What a cached step costs, over a full step of the original module.

Every form of caching takes its turn in every round: one computed step and the three cached steps behind it, as at
interval 4. Cached steps are timed through the optimised module as a user calls it, with all that its runtime does; the
same steps written out by hand, with no runtime at all, take their turns beside them.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from itertools import product
from typing import Any

import torch
from common import (
    FULL,
    QUICK,
    Denoiser,
    Inputs,
    Model,
    Shape,
    Spread,
    build_model,
    read_arguments,
    relative_error,
    share_weights,
)
from hand_written import HandWritten
from launches import CountCalls
from results import Check, Column, Result, Row

import fouriercache as fc

STEPS = 50
INTERVAL = 4
METHODS: dict[str, Callable[..., fc.Method]] = {
    "FORA": fc.FORA,
    "TaylorSeer order 1": lambda **options: fc.TaylorSeer(order=1, **options),
}
LIMITS = {
    ("eager", "stack"): 0.005,
    ("eager", "branch"): 0.015,
    ("inductor", "stack"): 0.004,
    ("inductor", "branch"): 0.007,
}
"""Targets for a cached step over a full one: at stack sites however it runs, at branch sites when it is prepared."""
COLUMNS = (
    Column("backend", "backend"),
    Column("site", "sites"),
    Column("method", "method"),
    Column("prepared", "prepared"),
    Column("cached_ms", "cached step, ms", ".2f"),
    Column("cached_percent", "cached / full, %", ".2f"),
    Column("hand_percent", "by hand / full, %", ".2f"),
    Column("over_hand", "cached / by hand", ".2f"),
    Column("cached_percent_of_compiled", "cached / compiled full, %", ".2f"),
    Column("computed_percent", "computed / full, %", ".1f"),
    Column("first_cached_ms", "first cached step, ms", ".1f"),
    Column("launches_counted", "launches, by report", "d"),
    Column("launches_measured", "launches, whole call", "d"),
    Column("parameters_read", "weights read, MB", ".2f"),
)


def computed_steps(steps: int) -> tuple[int, ...]:
    """Steps 0 and 1, which fill the history, and then one in four."""
    return (0, *range(1, steps, INTERVAL))


@dataclass
class Turn:
    """One form of caching, on its way through trajectory after trajectory."""

    labels: dict[str, Any]
    denoise: Denoiser
    inputs: Inputs
    step: int = 0
    result: Any = None
    cached: list[list[float]] = field(default_factory=list)
    computed: list[float] = field(default_factory=list)
    first_cached: list[float] = field(default_factory=list)

    def call(self) -> float:
        """Do the next step; return its seconds."""
        arguments = self.inputs.call(self.inputs.noise, self.step)
        started = time.perf_counter()
        self.result = self.denoise(**arguments)
        seconds = time.perf_counter() - started
        self.step = (self.step + 1) % len(self.inputs.timesteps)
        return seconds

    def warm_up(self) -> int:
        """Go through the first two intervals; everything that is compiled has been, at the end of it.

        Returns the ATen launches of one cached call, the runtime's own among them; 0 for what is compiled.
        """
        for _ in range(2 * INTERVAL):
            self.call()
        if self.labels["backend"] != "eager":
            self.call()
            return 0
        with CountCalls() as calls:
            self.call()
        return int(calls.launches)

    def take(self) -> None:
        """Do one computed step and the cached ones behind it; those that begin a trajectory are not counted."""
        steps = len(self.inputs.timesteps)
        if self.step == steps - 1:
            self.call()
        if self.step == 0:
            begun = [self.call() for _ in range(1 + INTERVAL)]
            self.first_cached.append(begun[2])
        self.computed.append(self.call())
        self.cached.append([self.call() for _ in range(INTERVAL - 1)])


@dataclass(frozen=True)
class Pair:
    """An optimised module, and the same steps by hand."""

    mine: Turn
    hand: Turn
    fast: fc.OptimizedModule

    def warm_up(self) -> tuple[int, float]:
        """Return the launches of one cached call, and how far its result is from the one by hand."""
        launches = self.mine.warm_up()
        self.hand.warm_up()
        return launches, relative_error(self.mine.result.sample, self.hand.result)

    def take(self, *, hand_first: bool) -> None:
        """One turn each."""
        for turn in (self.hand, self.mine) if hand_first else (self.mine, self.hand):
            turn.take()


def build_pairs(model: Model, shape: Shape, backend: str, steps: int) -> list[Pair]:
    inputs, computed = Inputs.draw(shape, steps), computed_steps(steps)
    compile_step = torch.compile if backend == "inductor" else None
    found = []
    for site, (name, method) in product(("stack", "branch"), METHODS.items()):
        chosen = method(site=site, schedule=fc.Table(computed))
        fast = fc.optimize(model, chosen, num_steps=steps, backend=backend, example_inputs=inputs.call(inputs.noise, 0))
        for prepared in (False, True):
            session = fast.new_session()
            if prepared:
                session.prepare(inputs.timesteps)
            labels = {"backend": backend, "site": site, "method": name, "prepared": prepared}
            own, given = share_weights(model), replace(inputs, is_shown=False)
            hand = HandWritten(
                own, inputs, computed, site, chosen.predictor, is_prepared=prepared, compile_step=compile_step
            )
            found.append(Pair(Turn(labels, session, given), Turn(labels, hand, given), fast))
    return found


def describe(pair: Pair, full: list[float], compiled: list[float], launches: int) -> Row:
    turn, report = pair.mine, pair.fast.report
    per_round, by_hand = ([sum(cached) / len(cached) for cached in mine.cached] for mine in (turn, pair.hand))

    def over(values: list[float], reference: list[float]) -> dict[str, float]:
        return Spread.of([v / r for v, r in zip(values, reference, strict=True)]).times(100).as_dict()

    cost = (report.moving if turn.labels["prepared"] else report.modes)["reuse"]
    return {
        **turn.labels,
        "cached_ms": Spread.of(per_round).times(1e3).as_dict(),
        "cached_percent": over(per_round, full),
        "hand_percent": over(by_hand, full),
        "over_hand": Spread.of([v / h for v, h in zip(per_round, by_hand, strict=True)]).as_dict(),
        "cached_percent_of_compiled": over(per_round, compiled) if compiled else None,
        "computed_percent": over(turn.computed, full),
        "first_cached_ms": Spread.of(turn.first_cached).times(1e3).as_dict(),
        "launches_counted": cost.launches,
        "launches_measured": launches or None,
        "parameters_read": cost.parameters_read / 1e6,
    }


@torch.no_grad()
def main() -> None:
    asked = read_arguments(__doc__)
    shape, rounds, steps = (QUICK, 2, 14) if asked.quick else (FULL, 16, STEPS)
    backends = ("eager",) if asked.quick else ("eager", "inductor")
    model = build_model(shape)
    result = Result(
        "step_cost",
        "Cost of a cached step",
        "Time of a cached step over that of a full step, the original module's forward, in the same round; median and "
        "quartiles over the rounds. With `prepare`, what depends on timestep and class alone has been computed for "
        "all steps in one batch, at the first cached step; without, each timestep is a tensor of its own, and each "
        "step computes what depends on it (where a loop shows the scheduler's list, cached steps share that: see "
        "`loop.md`). Launches by the report are those of the cached graph, "
        "all of it when not prepared; a whole call leaves out what depends on the class alone, which ran before, and "
        "has the runtime's own in it, such as the look for NaN. *By hand* is the same cached step written out in "
        "PyTorch, with no look at its inputs and no check of its result; compiled where the backend compiles. What a "
        "cached step takes hangs on memory and on one thread of Python, a full step on how fast the processor "
        "multiplies, so their ratio is a matter of the machine; that to the step by hand is less so.",
        {"model": shape.name, "batch": 2, "rounds": rounds, "interval": INTERVAL, "dtype": "float32"},
        COLUMNS,
    )
    inputs = Inputs.draw(shape, steps)
    call = inputs.call(inputs.noise, 1)
    originals: dict[str, Denoiser] = {"eager": model}
    if "inductor" in backends:
        originals["inductor"] = torch.compile(share_weights(model))
    pairs = [pair for backend in backends for pair in build_pairs(model, shape, backend, steps)]
    warm = [pair.warm_up() for pair in pairs]
    full: dict[str, list[float]] = {name: [] for name in originals}
    for original in originals.values():
        original(**call)
    for number in range(rounds):
        seconds: dict[str, list[float]] = {name: [] for name in originals}
        order = pairs[number % len(pairs) :] + pairs[: number % len(pairs)]
        for position, pair in enumerate(order):
            if position % (len(order) // 2) == 0:
                for name, original in originals.items():
                    started = time.perf_counter()
                    original(**call)
                    seconds[name].append(time.perf_counter() - started)
            pair.take(hand_first=bool(number % 2))
        for name, values in seconds.items():
            full[name].append(sum(values) / len(values))
    with CountCalls() as calls:
        model(**call)
    for name, values in full.items():
        ratios = [v / f for v, f in zip(values, full["eager"], strict=True)]
        result.rows.append(
            {
                "backend": name,
                "site": "-",
                "method": "original module",
                "cached_ms": Spread.of(values).times(1e3).as_dict(),
                "computed_percent": Spread.of(ratios).times(100).as_dict(),
                "launches_measured": calls.launches if name == "eager" else None,
                "parameters_read": sum(p.numel() * p.element_size() for p in model.parameters()) / 1e6,
            }
        )
    for pair, (count, _) in zip(pairs, warm, strict=True):
        result.rows.append(describe(pair, full["eager"], full.get("inductor", []), count))
    difference = max(found for _, found in warm)
    result.checks.append(Check("largest relative difference of a cached step from the one by hand", difference, 1e-5))
    for row in result.rows:
        if "prepared" in row:
            how = "prepared" if row["prepared"] else "not prepared"
            what = f"{row['backend']}, {row['site']} sites, {row['method']}, {how}"
            if row["prepared"] or row["site"] == "stack":
                limit = LIMITS[row["backend"], row["site"]]
                result.checks.append(Check(f"{what}: cached over full", row["cached_percent"]["median"] / 100, limit))
            result.checks.append(Check(f"{what}: computed over full", row["computed_percent"]["median"] / 100, 1.0))
    result.write(asked.out)


if __name__ == "__main__":
    main()
