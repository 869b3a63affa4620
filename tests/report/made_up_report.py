"""A demo report with made-up numbers, for tests of what is made from one."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fouriercache.report.data import (
    Check,
    DemoReport,
    DemoRun,
    GraphFacts,
    Grid,
    ModeRow,
    PlanRow,
    Refusal,
    Shipped,
)
from fouriercache.report.prediction import Prediction
from fouriercache.runtime.tables import SiteRow

NAMES = ("sphere", "ring", "star")
STEPS = 12

CANONICAL = """\
main(%0: f32[s0,3,32,32] sample, %1: f32[s0,256,128] attn.h0 (slot), %2: bool[] refresh)
  # transformer_blocks.0
  %3: f32[s0,256,128] = linear.default(%0, @transformer_blocks.0.attn1.to_q.weight)
  %4: f32[s0,256,128] = fouriercache.cache_lookup(%1)
  %5: f32[s0,256,128] = fouriercache.predict(%4, %2)
  %6: f32[s0,256,128] = fouriercache.select(%2, %3, %5)
  # transformer_blocks.1
  %7: f32[s0,256,128] = gelu.default(%6)
  return [%7]
"""

REUSE = """\
main(%0: f32[s0,3,32,32] sample, %1: f32[s0,256,128] attn.h0 (slot), %2: f32[1] coefficients)
  # transformer_blocks.0
  %3: f32[s0,256,128] = addcmul.default(%0, %1, %2)
  # outside the blocks
  %4: f32[s0,256,128] = gelu.default(%3)
  return [%4]
"""


def make_images(seed: int, noise: float) -> NDArray[np.uint8]:
    """Smooth ramps, [3, 8, 8, 3], the same for every seed but for some noise."""
    y, x = np.mgrid[0:8, 0:8] / 7
    base = np.stack([np.stack([x, y, np.full_like(x, k / 3)], axis=-1) for k in range(len(NAMES))])
    shifted = base + noise * np.random.default_rng(seed).standard_normal(base.shape)
    return np.asarray(np.clip(255 * shifted, 0, 255), dtype=np.uint8)


def make_run(method: str, site: str, interval: int, seconds: float, error: float) -> DemoRun:
    schedule = tuple(range(0, STEPS, interval))
    return DemoRun(
        method=method,
        setting=f"N={interval}",
        site=site,
        steps=STEPS,
        schedule=schedule,
        seconds=seconds,
        images=make_images(interval, error),
        errors=(error, error, error),
        drift=tuple(0.0 if step < 2 else error * step / STEPS for step in range(STEPS)),
        cache_bytes=3 * 2**20,
    )


def make_graph(method: str, site: str) -> GraphFacts:
    return GraphFacts(
        method=method,
        site=site,
        sites=tuple(
            SiteRow(kind, f"transformer_blocks.{block}", f"{kind}_{block}", "s0,256,128", gated=True)
            for block in range(4)
            for kind in ("attention", "mlp")
        ),
        refusals=(Refusal("FindSites", "branch <x> holds no matmul", "add_7"),),
        grid=Grid(1, 16, 16, 0),
        modes=(
            ModeRow("compute", 16_000_000_000, 512, 12_000_000),
            ModeRow("reuse", 320_000_000, 90, 900_000),
            ModeRow("prepared", 64_000_000, 40, 400_000),
        ),
        block="transformer_blocks.0",
        canonical=CANONICAL,
        reuse=REUSE,
    )


def make_report(*, passed: bool = True, cached: bool = True, shipped: bool = True) -> DemoReport:
    uncached = DemoRun(
        method="no cache",
        setting="",
        site="-",
        steps=STEPS,
        schedule=tuple(range(STEPS)),
        seconds=10.0,
        images=make_images(0, 0.0),
        errors=(0.0, 0.0, 0.0),
        drift=(0.0,) * STEPS,
        cache_bytes=0,
    )
    runs = (
        make_run("FORA", "branch", 2, 5.1, 0.021),
        make_run("FORA", "branch", 4, 2.7, 0.083),
        make_run("TaylorSeer", "stack", 2, 5.02, 0.004),
        make_run("TaylorSeer", "stack", 4, 2.6, 0.0123),
    )
    return DemoReport(
        runs=(uncached, *(runs if cached else ())),
        graphs=(make_graph("FORA", "branch"), make_graph("TaylorSeer", "stack")),
        checks=(Check("interval 1 is exact", passed, "largest difference 0"),),
        class_names=NAMES,
        environment={"torch": "2.13.0", "threads": "2"},
        seed=7,
        guidance=1.5,
        scheduler="DDIM",
        command="fouriercache demo --out demo_output --seed 7",
        shipped=Shipped(
            label="TaylorSeer N=4, stack",
            folder="bundle",
            graphs=(("compute.onnx", 120_000), ("reuse.onnx", 9_000)),
            weight_bytes=4_000_000,
            seconds=2.5,
            error=3.2e-6,
            target="tensorrt:sm89",
            plans=(
                PlanRow("sm89.reuse.moving.plan", 30_000, 20_000, 2, 0, capturable=True),
                PlanRow("sm89.step.plan", 50_000, None, None, None, None),
            ),
        )
        if shipped
        else None,
        predictions=(Prediction("FORA N=2, branch", 0.523, 0.617, "H200 SXM", 0.501, 5 * 2**20),) if cached else (),
    )
