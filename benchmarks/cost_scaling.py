"""FLUX.1-dev and Wan on paper: what they are predicted to cost as depth, tokens, batch and steps grow."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from common import read_arguments
from curves import Curve, draw_curves
from results import Check, Column, Result, Row
from torch import Tensor

import fouriercache as fc
from fouriercache.capture import capture
from fouriercache.cost import DEVICES
from fouriercache.models.full_size import FULL_SIZE, build_full_size
from fouriercache.passes.pipeline import build_steps
from fouriercache.runtime.estimate import estimate_cost
from fouriercache.runtime.estimates import CostEstimate
from fouriercache.steps import Steps

DEVICE = "h200"
LIMIT = 0.01
"""Largest relative error of the line at another depth."""

COLUMNS = (
    Column("model", "model"),
    Column("varied", "varied"),
    Column("blocks", "blocks", "d"),
    Column("tokens", "tokens", ",d"),
    Column("batch", "batch", "d"),
    Column("steps", "steps", "d"),
    Column("tflops", "full step, TFLOPs", ".1f"),
    Column("full_ms", "full step, ms", ".1f"),
    Column("cached_ms", "cached step, ms", ".2f"),
    Column("cache_gib", "kept features, GiB", ".2f"),
    Column("peak_gib", "memory at most, GiB", ".1f"),
    Column("flops_speedup", "speed-up by FLOPs", ".3f"),
    Column("speedup", "by time", ".3f"),
)

ABOUT = (
    f"Predictions for {DEVICES[DEVICE].name} by `fast.report.cost`, with TaylorSeer as published for each model, "
    "branch sites, prepared. Nothing was run: models are captured on the meta device with one block of each kind, and "
    "with one more of each; counts grow by what one block more adds, which the check holds against another capture. "
    "The rows change one of depth, tokens, batch and steps; the others stay at the published size."
)


@dataclass(frozen=True)
class Point:
    """One size of a model."""

    blocks: tuple[int, ...]
    size: tuple[int, ...]
    batch: int = 1
    steps: int = 50


@dataclass(frozen=True)
class Paper:
    """A model on paper: how it is called at a size, and the sizes that are asked for."""

    name: str
    call: Callable[[Mapping[str, Any], tuple[int, ...]], dict[str, Any]]
    tokens: Callable[[tuple[int, ...]], int]
    method: fc.Method
    base: Point
    depths: tuple[tuple[int, ...], ...]
    sizes: tuple[tuple[int, ...], ...]


def flux_call(call: Mapping[str, Any], size: tuple[int, ...]) -> dict[str, Any]:
    (tokens,) = size
    made: Tensor = call["hidden_states"]
    ids: Tensor = call["img_ids"]
    return {**call, "hidden_states": made.new_empty(1, tokens, 64), "img_ids": ids.new_empty(tokens, 3)}


def wan_call(call: Mapping[str, Any], size: tuple[int, ...]) -> dict[str, Any]:
    made: Tensor = call["hidden_states"]
    return {**call, "hidden_states": made.new_empty(1, 16, *size)}


PAPERS = (
    Paper("flux-dev", flux_call, lambda size: size[0] + 512, fc.TaylorSeer(6, 2, warmup=3), Point((19, 38), (4096,)),
          ((5, 10), (10, 19), (38, 76)), ((1024,), (16384,))),
    Paper("wan-14b", wan_call, lambda size: size[0] * size[1] * size[2] // 4, fc.TaylorSeer(5, 1, warmup=1),
          Point((40,), (21, 90, 160)), ((10,), (20,), (80,)), ((21, 60, 104), (41, 90, 160))),
)  # fmt: skip
QUICK = (replace(PAPERS[1], base=Point((3,), (1, 8, 8)), depths=((4,),), sizes=()),)


class Line:
    """Estimates at any depth, from captures with one block of each kind, and with one more of one kind."""

    def __init__(self, paper: Paper, size: tuple[int, ...]) -> None:
        self._paper = paper
        ones = (1,) * len(paper.base.blocks)
        self._ones = self.build(paper, ones, size)
        more = [(*ones[:kind], 2, *ones[kind + 1 :]) for kind in range(len(ones))]
        self._more = [self.build(paper, blocks, size) for blocks in more]

    @staticmethod
    def build(paper: Paper, blocks: tuple[int, ...], size: tuple[int, ...]) -> Steps:
        """Capture the model with so many blocks of each kind."""
        print(f"capturing {paper.name} with {blocks} blocks at {size}", flush=True)
        depth = dict(zip(FULL_SIZE[paper.name].depth, blocks, strict=True))
        model, call = build_full_size(paper.name, depth=depth)
        return build_steps(capture(model, paper.call(call, size), verify=False), paper.method)

    def values(self, point: Point) -> dict[str, float]:
        """What a depth costs: linear in it."""
        ones = read(estimate(self._ones, self._paper, point))
        found = dict(ones)
        for count, steps in zip(point.blocks, self._more, strict=True):
            more = read(estimate(steps, self._paper, point))
            found = {name: found[name] + (count - 1) * (more[name] - ones[name]) for name in found}
        return found


def estimate(steps: Steps, paper: Paper, point: Point) -> CostEstimate:
    return estimate_cost(steps, paper.method, DEVICE, num_steps=point.steps, batch=point.batch, prepared=True)


def read(cost: CostEstimate) -> dict[str, float]:
    """What is linear in depth; memory of values that live at once is not, and is that of any depth."""
    found = cost.trajectory
    assert found is not None
    return {
        "flops": cost.modes["original"].flops,
        "full": cost.modes["original"].seconds,
        "cached": cost.modes["reuse"].seconds,
        "cache": cost.cache,
        "peak": cost.peak_memory,
        "original_flops": found.original.flops,
        "cached_flops": found.cached.flops,
        "original_seconds": found.original.seconds,
        "cached_seconds": found.cached.seconds,
    }


def points(paper: Paper) -> Iterator[tuple[str, Point]]:
    base = paper.base
    yield "published size", base
    for blocks in paper.depths:
        yield "depth", replace(base, blocks=blocks)
    for size in paper.sizes:
        yield "tokens", replace(base, size=size)
    for batch in (2, 4, 8):
        yield "batch", replace(base, batch=batch)
    for steps in (20, 100):
        yield "steps", replace(base, steps=steps)


def rows_of(paper: Paper) -> tuple[list[Row], float]:
    """The rows of a model, and how far a capture of three blocks of each kind is from the line."""
    lines = {size: Line(paper, size) for size in (paper.base.size, *paper.sizes)}
    three = replace(paper.base, blocks=(3,) * len(paper.base.blocks))
    true = read(estimate(Line.build(paper, three.blocks, three.size), paper, three))
    drawn = lines[three.size].values(three)
    error = max(abs(drawn[name] / true[name] - 1) for name in true)
    rows: list[Row] = []
    for varied, point in points(paper):
        values = lines[point.size].values(point)
        rows.append(
            {
                "model": FULL_SIZE[paper.name].what,
                "varied": varied,
                "blocks": sum(point.blocks),
                "tokens": paper.tokens(point.size),
                "batch": point.batch,
                "steps": point.steps,
                "tflops": values["flops"] / 1e12,
                "full_ms": 1e3 * values["full"],
                "cached_ms": 1e3 * values["cached"],
                "cache_gib": values["cache"] / 2**30,
                "peak_gib": values["peak"] / 2**30,
                "flops_speedup": values["original_flops"] / values["cached_flops"],
                "speedup": values["original_seconds"] / values["cached_seconds"],
            }
        )
    return rows, error


def curves(rows: list[Row]) -> Iterator[Curve]:
    """Speed-up by time and kept features over each thing that is varied."""
    for varied, key in (("depth", "blocks"), ("tokens", "tokens"), ("batch", "batch"), ("steps", "steps")):
        for model in dict.fromkeys(row["model"] for row in rows):
            mine = [row for row in rows if row["model"] == model and row["varied"] in (varied, "published size")]
            mine.sort(key=lambda row: int(row[key]))
            x = tuple(float(row[key]) for row in mine)
            name = str(model).split(",")[0]
            yield Curve(varied, f"{name}, full step, ms", x, tuple(float(row["full_ms"]) for row in mine))
            yield Curve(
                varied, f"{name}, cached step, ms", x, tuple(float(row["cached_ms"]) for row in mine), dashed=True
            )


@torch.no_grad()
def main() -> None:
    asked = read_arguments(__doc__)
    rows: list[Row] = []
    checks = []
    for paper in QUICK if asked.quick else PAPERS:
        found, error = rows_of(paper)
        rows += found
        checks.append(Check(f"{paper.name}: relative error of the line at three blocks of each kind", error, LIMIT))
    settings = {"device": DEVICES[DEVICE].name, "dtype": "bfloat16"}
    Result("cost_scaling", "FLUX.1-dev and Wan on paper", ABOUT, settings, COLUMNS, rows, checks).write(asked.out)
    plot(rows, asked.out)


def plot(rows: list[Row], folder: Path) -> None:
    draw_curves(folder / "cost_scaling.png", "predicted for H200", list(curves(rows)))


if __name__ == "__main__":
    main()
