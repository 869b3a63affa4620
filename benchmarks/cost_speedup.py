"""The cost model's speed-up against the clock: loops on this processor, whose ceilings are measured in this run."""

from __future__ import annotations

import math
import statistics
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import groupby

import torch
from common import BATCH, FULL, QUICK, Inputs, Loop, Model, Shape, Spread, argument_parser, build_model, take_turns
from curves import Curve, draw_curves
from results import Check, Column, Result, Row

import fouriercache as fc
from fouriercache.cost import hinted
from fouriercache.program import tensor_of

LIMIT = 0.1
"""Largest relative difference of the predicted speed-up to the measured one."""
STEPS = 20
SHORT = 8
"""Steps of the loops that differ in size."""
SECONDS = 24.0
"""Loops of the original run for this long altogether, up to `MOST` times as often as asked; long ones as asked."""
MOST = 5
INTERVAL = 4
TURN = 4

COLUMNS = (
    Column("shape", "model"),
    Column("batch", "batch", "d"),
    Column("steps", "steps", "d"),
    Column("method", "method"),
    Column("site", "sites"),
    Column("prepared", "prepared"),
    Column("computed", "computed", "d"),
    Column("full_ms", "full step, ms", ".2f"),
    Column("full_predicted_ms", "predicted", ".2f"),
    Column("cached_ms", "cached step, ms", ".2f"),
    Column("cached_predicted_ms", "predicted", ".2f"),
    Column("speedup", "speed-up", ".3f"),
    Column("predicted", "predicted", ".3f"),
    Column("difference", "difference, %", "+.1f"),
    Column("flops", "by FLOPs", ".3f"),
)

ABOUT = (
    "Each row is a whole loop of an optimised module against that of the original one, both in eager float32 on one "
    "thread, a few steps each in turn. *Full step* is one of the original, *cached step* one that is not computed. "
    "*Speed-up* is the ratio of the loops' times, median and quartiles over the rounds; *predicted* is "
    "`fast.report.cost` of the processor that `fc.measure_cpu` measured right before, and of the runtime's own time "
    "for a step, measured on a model of two tiny blocks; *by FLOPs* is what papers report. No figure of the prediction "
    "comes from the rows. The first rows compare methods at one size, the others change one of depth, tokens, batch "
    "and steps. The sampler's step is in the measured times and not in the model. First of all a block of nearly 32 MB "
    "is freed, as in a process that has had larger weights or images: glibc keeps freed memory up to twice the largest "
    "block that it has seen freed. In a process that has seen small ones alone, the original gives memory back in each "
    "layer and gets it anew page by page, an optimised module far less of it; how much, hangs on all that the process "
    "did before, and no graph shows it. Full steps take longer there, and speed-ups are larger than predicted."
)


@dataclass(frozen=True)
class Case:
    """One loop to measure."""

    shape: Shape
    method: fc.Method
    batch: int = BATCH
    steps: int = STEPS
    prepared: bool = True

    @property
    def size(self) -> tuple[Shape, int, int]:
        """What it has in common with those that are measured beside one loop of the original."""
        return self.shape, self.batch, self.steps


def methods(steps: int) -> list[fc.Method]:
    """What is compared, at the same computed steps."""
    table = fc.Table(tuple(range(0, steps, INTERVAL)))
    return [
        fc.FORA(schedule=table, site="stack"),
        fc.TaylorSeer(order=2, schedule=table, site="stack"),
        fc.TaylorSeer(order=2, schedule=table),
        fc.ToCa(schedule=table, tokens=fc.TopK(fc.TokenNorm(), 0.3)),
    ]


def cases(full: Shape, steps: int, *, quick: bool) -> list[Case]:
    """The methods at one size, then one method as one size after the other changes."""
    branch = methods(steps)[2]
    found = [Case(full, method, steps=steps) for method in methods(steps)]
    found.append(Case(full, branch, steps=steps, prepared=False))
    if quick:
        return found
    short = Case(full, methods(SHORT)[2], steps=SHORT)
    found += [short]
    found += [replace(short, shape=replace(full, layers=layers)) for layers in (3, 6, 24)]
    found += [replace(short, shape=replace(full, latent=latent)) for latent in (16, 48)]
    found += [replace(short, batch=batch) for batch in (1, 4)]
    found += [replace(short, steps=12, method=methods(12)[2])]
    return found


def draw(case: Case) -> Inputs:
    inputs = replace(Inputs.draw(case.shape, case.steps), is_shown=False)  # a prediction is of steps by themselves
    repeats = -(-case.batch // BATCH)
    return replace(
        inputs,
        noise=inputs.noise.repeat(repeats, 1, 1, 1)[: case.batch],
        labels=inputs.labels.repeat(repeats)[: case.batch],
    )


def measure(found: Sequence[Case], rounds: int, device: fc.Device) -> list[Row]:
    """The rows of cases of one size, whose loops take turns with one of the original."""
    model: Model = build_model(found[0].shape)
    inputs = draw(found[0])
    fasts = [
        fc.optimize(model, case.method, num_steps=case.steps, example_inputs=inputs.call(inputs.noise, 0))
        for case in found
    ]

    def loops() -> list[Loop]:
        begins = [
            (lambda fast=fast: fast.prepare(inputs.timesteps)) if case.prepared else fast.reset
            for case, fast in zip(found, fasts, strict=True)
        ]
        mine = [Loop(fast, inputs, begin) for fast, begin in zip(fasts, begins, strict=True)]
        return [Loop(model, inputs, lambda: None), *mine]

    first = loops()
    for loop in first:
        loop.advance(2)  # what is made at the first call of a kind is not timed
    one = min(first[0].seconds) * found[0].steps
    done = [loops() for _ in range(max(rounds, min(MOST * rounds, math.ceil(SECONDS / one))))]
    for number, mine in enumerate(done):
        take_turns(mine[:: 1 if number % 2 else -1], TURN)
    return [
        row(case, fast, device, [(mine[0], mine[place]) for mine in done])
        for place, (case, fast) in enumerate(zip(found, fasts, strict=True), start=1)
    ]


def row(case: Case, fast: fc.OptimizedModule, device: fc.Device, pairs: Sequence[tuple[Loop, Loop]]) -> Row:
    """What loops of the original and of the optimised module took, and what was predicted."""
    cost = fast.report.cost(device, batch=case.batch, prepared=case.prepared)
    found = cost.trajectory
    assert found is not None
    full = [sum(original.seconds) / case.steps for original, _ in pairs]
    cached = [
        statistics.median(time for step, time in enumerate(loop.seconds) if step not in found.computed)
        for _, loop in pairs
    ]
    speedup = Spread.of([sum(original.seconds) / sum(loop.seconds) for original, loop in pairs])
    mode = cost.modes.get("partial", cost.modes["reuse"])
    return {
        "shape": case.shape.name,
        "layers": case.shape.layers,
        "tokens": (case.shape.latent // 2) ** 2,
        "batch": case.batch,
        "steps": case.steps,
        "method": case.method.name,
        "site": case.method.site,
        "prepared": case.prepared,
        "computed": len(found.computed),
        "full_ms": Spread.of(full).times(1e3).as_dict(),
        "full_predicted_ms": 1e3 * cost.modes["original"].seconds,
        "cached_ms": Spread.of(cached).times(1e3).as_dict(),
        "cached_predicted_ms": 1e3 * mode.seconds,
        "speedup": speedup.as_dict(),
        "predicted": found.speedup,
        "difference": 100 * (found.speedup / speedup.median - 1),
        "flops": found.flops_speedup,
    }


def runtime_seconds(steps: int = 80) -> float:
    """Seconds that the runtime takes for a cached step beside its graph, on a model whose graph takes next to none."""
    model, inputs = build_model(QUICK), Inputs.draw(QUICK, steps)
    method = fc.FORA(schedule=fc.Table((0, steps // 2)), site="stack")
    fast = fc.optimize(model, method, num_steps=steps, example_inputs=inputs.call(inputs.noise, 0))
    program = fast.report.steps.modes["reuse"].moving
    likes = [tensor_of(node) for node in program.placeholders]
    values = [torch.ones([hinted(n) for n in like.shape], dtype=like.dtype) for like in likes if like is not None]
    graph = program.module()
    whole, alone = [], []
    for _ in range(2):
        fast.prepare(inputs.timesteps)
        for step in range(steps):
            seconds = clock(partial(fast, **inputs.call(inputs.noise, step)))
            alone.append(clock(lambda: graph(*values)))
            if step not in (0, steps // 2):
                whole.append(seconds)
    return max(statistics.median(whole) - statistics.median(alone), 0.0)


def settle_allocator() -> None:
    """Free one block of the largest size that glibc learns from, so that it keeps what a step frees for the next."""
    torch.ones(32 * 2**20 // 4 - 4096)


def clock(work: Callable[[], object]) -> float:
    """Seconds that it takes."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def curves(rows: list[Row]) -> Iterator[Curve]:
    """Speed-up over each thing that is varied, measured and predicted."""
    branch = [row for row in rows if (row["method"], row["site"], row["prepared"]) == ("TaylorSeer", "branch", True)]
    for varied in ("layers", "tokens", "batch", "steps"):
        others = [name for name in ("layers", "tokens", "batch", "steps") if name != varied]
        common = Counter(tuple(row[name] for name in others) for row in branch).most_common(1)[0][0]
        mine = sorted((r for r in branch if tuple(r[name] for name in others) == common), key=lambda r: int(r[varied]))
        x = tuple(float(row[varied]) for row in mine)
        yield Curve(varied, "measured", x, tuple(float(row["speedup"]["median"]) for row in mine))
        yield Curve(varied, "predicted", x, tuple(float(row["predicted"]) for row in mine), dashed=True)


@torch.no_grad()
def main() -> None:
    parser = argument_parser(__doc__)
    parser.add_argument("--methods", action="store_true", help="compare the methods at one size, and leave sizes out")
    parser.add_argument("--rounds", type=int, default=3, help="loops of each kind")
    parser.add_argument("--steps", type=int, default=STEPS, help="of a loop")
    asked = parser.parse_args()
    shape, rounds, steps = (QUICK, 2, 8) if asked.quick else (FULL, asked.rounds, asked.steps)
    torch.set_num_threads(1)  # what else the machine does has the other cores, and threads do not wait for each other
    settle_allocator()
    device = replace(fc.measure_cpu(0.05 if asked.quick else 0.5), step=runtime_seconds())
    groups = groupby(cases(shape, steps, quick=asked.quick or asked.methods), key=lambda case: case.size)
    found: list[Row] = []
    for _, group in groups:
        found += measure(list(group), rounds, device)
        print(f"{len(found)}: {found[-1]['shape']}, {found[-1]['difference']:+.1f} %", flush=True)
    ceilings = {
        "GFLOP/s": f"{device.peaks['float32'] / 1e9:.1f}",
        "attention, share": f"{device.attention:.2f}",
        "launch, us": f"{1e6 * device.launch:.2f}",
        "view, us": f"{1e6 * device.view:.2f}",
        "module, us": f"{1e6 * device.module:.2f}",
        "runtime, us": f"{1e6 * device.step:.0f}",
        "weights of few rows, GB/s": f"{(device.products or device.bandwidth) / 1e9:.1f}",
        "functions, 1e9/s": {name: f"{rate / 1e9:.2f}" for name, rate in device.functions.items()},
        "GB/s by working set": {f"{size}": f"{rate / 1e9:.1f}" for size, rate in device.caches}
        | {"memory": f"{device.bandwidth / 1e9:.1f}"},
    }
    largest = max(abs(row["difference"]) for row in found) / 100
    check = Check("largest relative difference of a predicted speed-up", largest, LIMIT)
    settings = {"device": device.name, **ceilings, "rounds": rounds, "interval": INTERVAL, "dtype": "float32"}
    result = Result("cost_speedup", "Speed-up, predicted and measured", ABOUT, settings, COLUMNS, found, [check])
    result.write(asked.out)
    what = "speed-up, TaylorSeer at branches"
    draw_curves(asked.out / "cost_speedup.png", what, list(curves(found)), is_logarithmic=False)


if __name__ == "__main__":
    main()
