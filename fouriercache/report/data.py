"""What a demo run found, as plain frozen values: no torch, no optimised module, nothing that needs the model.

The page, the console table and the JSON result are all made from these, so each of them can be tested with made-up
numbers, and none of them can show a figure that the others do not have.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from statistics import fmean
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fouriercache.report.prediction import Prediction
from fouriercache.runtime.tables import SiteRow

_JSON_SCHEMA = 1
"""Version of `DemoReport.as_dict`; a change that could break a reader raises it."""


@dataclass(frozen=True)
class DemoRun:
    """One sampling loop.

    Fields:
        method: "FORA", "TaylorSeer", or "no cache" for the original module.
        setting: what tells runs of one method apart, "N=5, order 2"; empty for the original.
        site: "branch", "block", "stack", or "-" for the original.
        schedule: the computed steps, ascending, of `steps` in all.
        seconds: wall time of the loop, without capture and warm-up.
        images: uint8 [n, height, width, 3].
        errors: relative L2 error of each image to the uncached one, n numbers.
        drift: relative L2 error of the whole latent batch after each step, `steps` numbers.
        cache_bytes: bytes of feature history held at the end of the loop.
    """

    method: str
    setting: str
    site: str
    steps: int
    schedule: tuple[int, ...]
    seconds: float
    images: NDArray[np.uint8] = field(repr=False, compare=False)
    errors: tuple[float, ...]
    drift: tuple[float, ...]
    cache_bytes: int

    @property
    def is_uncached(self) -> bool:
        """Whether this is the run of the original module."""
        return self.site == "-"

    @property
    def computed(self) -> int:
        """How many steps are computed."""
        return len(self.schedule)

    @property
    def first_reused(self) -> int:
        """The first step that is not computed; `steps` when all are."""
        return next((step for step in range(self.steps) if step not in self.schedule), self.steps)

    @property
    def ideal_ratio(self) -> float:
        """Time relative to the uncached loop if a reused step cost nothing: computed / steps."""
        return self.computed / self.steps

    @property
    def error(self) -> float:
        """Mean over the images of the relative L2 error."""
        return fmean(self.errors)

    @property
    def label(self) -> str:
        """Short name that is unique among the runs of one demo."""
        return self.method if self.is_uncached else f"{self.method} {self.setting}, {self.site}"


@dataclass(frozen=True)
class Refusal:
    """A rewrite that a pass declined, with its reason and the node it looked at."""

    pass_name: str
    reason: str
    node: str


@dataclass(frozen=True)
class Grid:
    """The token grid: frames, rows, columns, and the index of the first image token."""

    t: int
    h: int
    w: int
    start: int


@dataclass(frozen=True)
class ModeRow:
    """What one call costs, counted on the graph for the batch of the capture.

    `mode` is "compute", "reuse", or "prepared": a reuse step whose conditioning was computed before the loop.
    """

    mode: str
    flops: int
    launches: int
    weight_bytes: int


@dataclass(frozen=True)
class GraphFacts:
    """What the compiler did for one method and site.

    `canonical` and `reuse` are whole program texts, `block` is the label of the block that stands for all of them.
    `batch` is the one that costs are counted for.
    """

    method: str
    site: str
    sites: tuple[SiteRow, ...]
    refusals: tuple[Refusal, ...]
    grid: Grid | None
    modes: tuple[ModeRow, ...]
    block: str
    canonical: str = field(repr=False)
    reuse: str = field(repr=False)
    batch: int | None = None

    @property
    def label(self) -> str:
        """Short name that is unique among the graphs of one demo."""
        return f"{self.method}, {self.site} sites"

    def mode(self, name: str) -> ModeRow:
        """Return the cost of one mode.

        Raises:
            KeyError: no such mode.
        """
        for row in self.modes:
            if row.mode == name:
                return row
        raise KeyError(f"no mode {name!r}; there are {[row.mode for row in self.modes]}")


@dataclass(frozen=True)
class Check:
    """Something the demo verified about itself; a failed one makes the command exit with 1."""

    name: str
    passed: bool
    detail: str


@dataclass(frozen=True)
class PlanRow:
    """An engine's plan of one graph, and what can be read off it; None where that is not known for its version."""

    file: str
    bytes: int
    weight_bytes: int | None
    gemms: int | None
    host_branches: int | None
    capturable: bool | None


@dataclass(frozen=True)
class Shipped:
    """One setting as a bundle: what was written, and its loop in ONNX Runtime.

    Fields:
        label: of the run that was exported. folder: where the bundle is, from the report's folder.
        graphs: (file, bytes) of each ONNX graph. weight_bytes: of the one file of weights that they share.
        seconds: wall time of the loop in ONNX Runtime. error: relative L2 distance of its latents to the same loop in
            eager. plans: of the target called `target`, if plans were built.
    """

    label: str
    folder: str
    graphs: tuple[tuple[str, int], ...]
    weight_bytes: int
    seconds: float
    error: float
    target: str
    plans: tuple[PlanRow, ...]


@dataclass(frozen=True)
class DemoReport:
    """Everything the page, the table and the JSON result are made of. The first run is the uncached one.

    `shipped` is None where the extra that exports is not installed.
    """

    runs: tuple[DemoRun, ...]
    graphs: tuple[GraphFacts, ...]
    checks: tuple[Check, ...]
    class_names: tuple[str, ...]
    environment: Mapping[str, str]
    seed: int
    guidance: float
    scheduler: str
    command: str
    shipped: Shipped | None = None
    predictions: tuple[Prediction, ...] = ()

    def __post_init__(self) -> None:
        if not self.runs or not self.runs[0].is_uncached:
            raise ValueError("DemoReport.runs must begin with the uncached run; every ratio is taken against it")

    @property
    def uncached(self) -> DemoRun:
        """The run every other one is compared with."""
        return self.runs[0]

    @property
    def cached(self) -> tuple[DemoRun, ...]:
        """The runs of optimised modules."""
        return self.runs[1:]

    def time_ratio(self, run: DemoRun) -> float:
        """Wall time of `run` over that of the uncached run of the same process."""
        return run.seconds / self.uncached.seconds

    def choose_best(self, error: float) -> DemoRun | None:
        """Return the fastest cached run whose error is at most `error`.

        When there is none, that is the run with the smallest error among those faster than the uncached one; None when
        no run is faster.
        """
        faster = [run for run in self.cached if self.time_ratio(run) < 1]
        good = [run for run in faster if run.error <= error]
        if good:
            return min(good, key=self.time_ratio)
        return min(faster, key=lambda run: run.error, default=None)

    def as_dict(self) -> dict[str, Any]:
        """Return the JSON result: everything but the images and the graph texts."""
        return {
            "schema": _JSON_SCHEMA,
            "command": self.command,
            "seed": self.seed,
            "guidance": self.guidance,
            "scheduler": self.scheduler,
            "environment": dict(self.environment),
            "runs": [self._run_as_dict(run) for run in self.runs],
            "graphs": [graph_as_dict(graph) for graph in self.graphs],
            "checks": [vars(check) for check in self.checks],
            "predictions": [vars(found) for found in self.predictions],
            "shipped": None if self.shipped is None else asdict(self.shipped) | {"error": _finite(self.shipped.error)},
        }

    def _run_as_dict(self, run: DemoRun) -> dict[str, Any]:
        return {
            "method": run.method,
            "setting": run.setting,
            "site": run.site,
            "steps": run.steps,
            "schedule": list(run.schedule),
            "seconds": run.seconds,
            "time_ratio": self.time_ratio(run),
            "ideal_ratio": run.ideal_ratio,
            "error": _finite(run.error),
            "errors": [_finite(error) for error in run.errors],
            "cache_bytes": run.cache_bytes,
        }


def _finite(value: float) -> float | None:
    """JSON has no NaN and no infinity; both become null."""
    return value if math.isfinite(value) else None


def graph_as_dict(graph: GraphFacts) -> dict[str, Any]:
    """Return sites, refusals, grid and costs; the JSON result of `inspect`, and a part of the demo's."""
    return {
        "method": graph.method,
        "site": graph.site,
        "sites": [vars(site) for site in graph.sites],
        "refusals": [vars(refusal) for refusal in graph.refusals],
        "grid": None if graph.grid is None else vars(graph.grid),
        "modes": [vars(mode) for mode in graph.modes],
    }
