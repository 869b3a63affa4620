"""A whole denoising loop with 13 of 50 steps computed, in ONNX Runtime on the CPU, beside the uncached model there.

The uncached model is the captured program, before any rewrite, in ONNX Runtime: what one would ship without caching.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import onnx_ir
import torch
from common import FULL, QUICK, Inputs, Loop, Model, Spread, build_model, read_arguments, relative_error, take_turns
from loop import computed_steps
from peers import nothing
from results import Check, Column, Result
from torch import Tensor

import fouriercache as fc
from fouriercache.bundle.manifest import Given, Graph, Returned
from fouriercache.export.onnx_graph import translate
from fouriercache.runtime.onnxruntime import Engine

OVER_IDEAL = 1.06
"""Target for the time over the ideal at stack sites."""
CACHED = 0.004
"""Target for a cached step, over a full one, of a prepared loop."""
TURN = 10
"""Steps a row runs before the next one has its turn."""

COLUMNS = (
    Column("name", "loop"),
    Column("ratio", "time / uncached", ".3f"),
    Column("ideal", "ideal", ".3f"),
    Column("over_ideal", "time / ideal", ".3f"),
    Column("seconds", "loop, s", ".2f"),
    Column("cached_ms", "cached step, ms", ".2f"),
    Column("cached_percent", "cached / full, %", ".2f"),
    Column("error", "error of final latents to eager", ".2e"),
)


@dataclass(frozen=True)
class Entry:
    """One row: what is called, what begins a trajectory, and its limit for the time over the ideal."""

    name: str
    model: Callable[..., Any]
    begin: Callable[[], None]
    is_cached: bool
    limit: float | None = None


def uncached_in_onnx_runtime(fast: fc.OptimizedModule, folder: Path, engine: Engine) -> Callable[..., Any]:
    """Return the model as it was captured, in ONNX Runtime, called like the model."""
    program = fast.captured[0].capture.program
    file = "model.onnx"
    onnx_ir.save(translate(program), folder / file, external_data="model.bin")
    inputs = [
        Given("hidden_states", "sample", "float32", ("batch", 4, "side", "side")),
        Given("timestep", "timestep", "int64", ("batch",)),
        Given("class_labels", "conditioning", "int64", ("batch",)),
    ]
    outputs = [Returned("result_0", "result", "float32", ("batch", 4, "side", "side"), "result_0")]
    graph = Graph(file, tuple(inputs), tuple(outputs))
    run = engine.start(graph, (folder / file).read_bytes(), folder)

    def call(hidden_states: Tensor, timestep: Tensor, class_labels: Tensor) -> Any:
        return SimpleNamespace(sample=run([hidden_states, timestep, class_labels])[0])

    return call


def list_entries(model: Model, inputs: Inputs, folder: Path) -> tuple[fc.OptimizedModule, list[Entry]]:
    """Return the module that is exported, and every row, the uncached one first."""
    steps = len(inputs.timesteps)
    method = fc.TaylorSeer(order=1, warmup=1, site="stack", schedule=fc.Table(computed_steps(steps)))
    fast = fc.optimize(model, method, num_steps=steps, example_inputs=inputs.call(inputs.noise, 0))
    fc.export(fast, folder / "bundle")
    threads = torch.get_num_threads()
    entries = [Entry("uncached", uncached_in_onnx_runtime(fast, folder, Engine(threads=threads)), nothing, False)]
    parts, single = (fc.load(folder / "bundle", threads=threads, single_graph=is_single) for is_single in (False, True))
    session, prepared, one = parts.new_session(), parts.new_session(), single.new_session()
    entries += [
        Entry("a graph for each mode", session, session.reset, True, OVER_IDEAL),
        Entry(
            "a graph for each mode, prepared", prepared, lambda: prepared.prepare(inputs.timesteps), True, OVER_IDEAL
        ),
        Entry("one graph with an If", one, one.reset, True, OVER_IDEAL),
    ]
    return fast, entries


def main() -> None:
    asked = read_arguments(__doc__)
    shape, steps, rounds = (QUICK, 10, 1) if asked.quick else (FULL, 50, 5)
    model, inputs = build_model(shape), Inputs.draw(shape, steps)
    computed = computed_steps(steps)
    with tempfile.TemporaryDirectory() as folder:
        fast, entries = list_entries(model, inputs, Path(folder))
        eager = {}
        for name, begin in (("uncached", nothing), ("cached", fast.reset)):
            loop = Loop(model if name == "uncached" else fast, inputs, begin)
            loop.advance(steps)
            eager[name] = loop.latents
        for entry in entries:  # warm, and out of the times
            Loop(entry.model, inputs, entry.begin).advance(steps)
        measured: dict[str, list[Loop]] = {entry.name: [] for entry in entries}
        for number in range(rounds):
            order = [*entries[number % len(entries) :], *entries[: number % len(entries)]]
            loops = {entry.name: Loop(entry.model, inputs, entry.begin) for entry in order}
            take_turns(list(loops.values()), TURN)
            for name, loop in loops.items():
                measured[name].append(loop)
    result = Result(
        "ort_loop",
        f"Denoising loops in ONNX Runtime, {len(computed)} of {steps} steps computed",
        "Time of a loop over that of the uncached model's loop in the same round, both in ONNX Runtime's CPU provider, "
        "beside the ideal: the share of steps that is computed. A cached step is the median of a loop's cached steps, "
        "a full one that of the uncached model's steps in the same round. `prepare` and what it computes ahead are in "
        f"the time. Median and quartiles over the rounds; the loops of a round take turns of {TURN} steps. Error: "
        "relative L2 of the final latents to the same loop in eager torch.",
        {"model": shape.name, "batch": 2, "steps": steps, "rounds": rounds, "turn": TURN, "dtype": "float32",
         "threads": torch.get_num_threads(), "computed steps": list(computed)},
        COLUMNS,
    )  # fmt: skip
    for entry in entries:
        result.rows.append(describe(entry, measured[entry.name], measured["uncached"], computed, steps, eager))
    for entry, row in zip(entries, result.rows, strict=True):
        if entry.limit is not None:
            result.checks.append(Check(f"{entry.name}: time over ideal", row["over_ideal"]["median"], entry.limit))
        if "prepared" in entry.name:
            result.checks.append(Check(f"{entry.name}: cached / full", row["cached_percent"]["median"] / 100, CACHED))
        result.checks.append(Check(f"{entry.name}: error to eager", row["error"], 1e-4))
    result.write(asked.out)


def describe(
    entry: Entry, loops: list[Loop], full: list[Loop], computed: tuple[int, ...], steps: int, eager: dict[str, Tensor]
) -> dict[str, Any]:
    """A row of the result."""
    ratio = Spread.of([sum(a.seconds) / sum(b.seconds) for a, b in zip(loops, full, strict=True)])
    ideal = len(computed) / steps if entry.is_cached else 1.0
    row: dict[str, Any] = {
        "name": entry.name,
        "ratio": ratio.as_dict(),
        "ideal": ideal,
        "over_ideal": ratio.times(1 / ideal).as_dict(),
        "seconds": Spread.of([sum(loop.seconds) for loop in loops]).as_dict(),
        "error": relative_error(loops[-1].latents, eager["cached" if entry.is_cached else "uncached"]),
    }
    if entry.is_cached:
        cached = [Spread.of([s for i, s in enumerate(loop.seconds) if i not in computed]).median for loop in loops]
        whole = [Spread.of(loop.seconds).median for loop in full]
        row["cached_ms"] = Spread.of(cached).times(1000).as_dict()
        row["cached_percent"] = Spread.of([100 * c / w for c, w in zip(cached, whole, strict=True)]).as_dict()
    return row


if __name__ == "__main__":
    main()
