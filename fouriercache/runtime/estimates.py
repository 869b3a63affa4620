"""What a cost estimate holds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from fouriercache.cost import Device, Work
from fouriercache.runtime.tables import cost_lines, cost_table


@dataclass(frozen=True)
class StepEstimate:
    """One step of a mode. Of a mode whose steps differ (numbers of chosen tokens), the mean.

    Attributes:
        flops: two for each multiply-add. launches: calls that compute. moved: bytes read and written.
        seconds: on the device, at least.
        memory: bytes of weights, kept features and live values at once, at most.
    """

    flops: int
    launches: int
    moved: int
    seconds: float
    memory: int


@dataclass(frozen=True)
class TrajectoryEstimate:
    """All steps of a trajectory, with the method and without.

    Attributes:
        steps: how many. computed: which of them are computed.
        cached: with the method. original: the model itself at every step.
    """

    steps: int
    computed: tuple[int, ...]
    cached: Work
    original: Work

    @property
    def flops_speedup(self) -> float:
        """FLOPs of the original over those with the method: what papers call FLOPs speed-up."""
        return self.original.flops / self.cached.flops

    @property
    def speedup(self) -> float:
        """Seconds of the original over those with the method."""
        return self.original.seconds / self.cached.seconds


@dataclass(frozen=True)
class CostEstimate:
    """What `fast.report.cost` predicts; nothing of it was run. `print` shows it as a table.

    Attributes:
        device: whose ceilings were taken. batch: samples in a call.
        weights: bytes of the model's weights that its graph reads.
        cache: bytes of kept features and states once the history is full, of all passes.
        hoisted: bytes of what is computed once for a timestep or conditioning, and kept: for all steps of a trajectory
            where it is prepared, else for two timesteps of each mode. Where it is prepared, the sums that cached steps
            make for those behind them, too, at most: backends that do not fuse calls make them for few methods.
        modes: "original", the model itself; then "compute", "reuse", and where there are such steps "partial", "probe".
            What depends on the conditioning alone runs once and is not in them.
        trajectory: None when the schedule decides as it runs and no `computed` was given.
    """

    device: Device
    batch: int
    weights: int
    cache: int
    hoisted: int
    modes: Mapping[str, StepEstimate]
    trajectory: TrajectoryEstimate | None

    def __str__(self) -> str:
        return "\n".join([cost_table(self).text(), "", *cost_lines(self)])

    @property
    def peak_memory(self) -> int:
        """Bytes that the costliest step takes at most."""
        return max(step.memory for mode, step in self.modes.items() if mode != "original")

    @property
    def fits(self) -> bool:
        """Whether the device has that much memory, or does not say how much it has."""
        return self.device.memory is None or self.peak_memory <= self.device.memory

    def as_dict(self) -> dict[str, Any]:
        """The values by name, for JSON."""
        found = self.trajectory
        return {
            "device": asdict(self.device),
            "batch": self.batch,
            "weights": self.weights,
            "cache": self.cache,
            "hoisted": self.hoisted,
            "peak_memory": self.peak_memory,
            "fits": self.fits,
            "modes": {mode: asdict(step) for mode, step in self.modes.items()},
            "trajectory": None if found is None else asdict(found) | {
                "flops_speedup": found.flops_speedup, "speedup": found.speedup
            },
        }  # fmt: skip
