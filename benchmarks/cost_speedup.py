"""The cost model's speed-up against the clock: loops on this processor, whose ceilings are measured in this run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from common import BATCH, FULL, QUICK, Inputs, Loop, Model, Shape, Spread, argument_parser, build_model, take_turns
from curves import Curve, draw_curves
from results import Check, Column, Result, Row, publish

import fouriercache as fc

LIMIT = 0.1
"""Largest relative difference of the predicted speed-up to the measured one."""
STEPS = 50
INTERVAL = 4
TURN = 5

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
    Column("speedup", "speed-up", ".3f"),
    Column("predicted", "predicted", ".3f"),
    Column("difference", "difference, %", "+.1f"),
    Column("flops", "by FLOPs", ".3f"),
)

ABOUT = (
    "Each row is a whole loop of an optimised module against that of the original one, both in eager float32, a few "
    "steps each in turn. *Speed-up* is the ratio of their times, median and quartiles over the rounds; *predicted* is "
    "`fast.report.cost(fc.measure_cpu())`, the processor measured right before; *by FLOPs* is what papers report. "
    "The first rows compare methods at one size, the others change one of depth, tokens, batch and steps. The "
    "runtime's own Python and the sampler's step are in the measured times and not in the model."
)


@dataclass(frozen=True)
class Case:
    """One loop to measure."""

    shape: Shape
    method: fc.Method
    batch: int = BATCH
    steps: int = STEPS
    prepared: bool = True


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
    short = Case(full, methods(20)[2], steps=20)
    found += [short]
    found += [replace(short, shape=replace(full, layers=layers)) for layers in (3, 6, 24)]
    found += [replace(short, shape=replace(full, latent=latent)) for latent in (16, 64)]
    found += [replace(short, batch=batch) for batch in (1, 4, 8)]
    found += [replace(short, steps=count, method=methods(count)[2]) for count in (10, 100)]
    return found


def draw(case: Case) -> Inputs:
    inputs = Inputs.draw(case.shape, case.steps)
    repeats = -(-case.batch // BATCH)
    return replace(
        inputs,
        noise=inputs.noise.repeat(repeats, 1, 1, 1)[: case.batch],
        labels=inputs.labels.repeat(repeats)[: case.batch],
    )


def measure(case: Case, rounds: int, device: fc.Device) -> Row:
    model: Model = build_model(case.shape)
    inputs = draw(case)
    fast = fc.optimize(model, case.method, num_steps=case.steps, example_inputs=inputs.call(inputs.noise, 0))
    begin = (lambda: fast.prepare(inputs.timesteps)) if case.prepared else fast.reset
    for loop in (Loop(model, inputs, lambda: None), Loop(fast, inputs, begin)):
        loop.advance(2)  # what is made at the first call of a kind is not timed
    ratios, full = [], []
    for number in range(rounds):
        loops = [Loop(model, inputs, lambda: None), Loop(fast, inputs, begin)]
        take_turns(loops[:: 1 if number % 2 else -1], TURN)
        original, cached = (sum(loop.seconds) for loop in loops)
        ratios.append(original / cached)
        full.append(original / case.steps)
    cost = fast.report.cost(device, prepared=case.prepared)
    found = cost.trajectory
    assert found is not None
    speedup = Spread.of(ratios)
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
        "full_predicted_ms": 1e3 * found.original.seconds / case.steps,
        "speedup": speedup.as_dict(),
        "predicted": found.speedup,
        "difference": 100 * (found.speedup / speedup.median - 1),
        "flops": found.flops_speedup,
    }


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
    parser.add_argument("--rounds", type=int, default=5, help="loops of each kind")
    parser.add_argument("--steps", type=int, default=STEPS, help="of a loop")
    asked = parser.parse_args()
    shape, rounds, steps = (QUICK, 2, 8) if asked.quick else (FULL, asked.rounds, asked.steps)
    device = fc.measure_cpu(0.05 if asked.quick else 0.5)
    found = [measure(case, rounds, device) for case in cases(shape, steps, quick=asked.quick or asked.methods)]
    ceilings = {
        "GFLOP/s": f"{device.peaks['float32'] / 1e9:.1f}",
        "attention, share": f"{device.attention:.2f}",
        "launch, us": f"{1e6 * device.launch:.2f}",
        "GB/s by working set": {f"{size}": f"{rate / 1e9:.1f}" for size, rate in device.caches}
        | {"memory": f"{device.bandwidth / 1e9:.1f}"},
    }
    largest = max(abs(row["difference"]) for row in found) / 100
    check = Check("largest relative difference of a predicted speed-up", largest, LIMIT)
    settings = {"device": device.name, **ceilings, "rounds": rounds, "interval": INTERVAL, "dtype": "float32"}
    result = Result("cost_speedup", "Speed-up, predicted and measured", ABOUT, settings, COLUMNS, found, [check])
    result.write(asked.out)
    publish("cost_speedup", asked.out)
    what = "speed-up, TaylorSeer at branches"
    draw_curves(asked.out / "cost_speedup.png", what, list(curves(found)), is_logarithmic=False)


if __name__ == "__main__":
    main()
