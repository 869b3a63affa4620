"""A small benchmark: a model's own loop and the optimised one, in turns, timed call by call."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from fouriercache.errors import CaptureError
from fouriercache.report.environment import peak_memory
from fouriercache.runtime.module import OptimizedModule


@dataclass(frozen=True)
class _Timing:
    """Seconds of one kind of step: the median of wall time and of CPU time, and the quartiles of wall time."""

    name: str
    calls: int
    seconds: float
    cpu_seconds: float
    quartiles: tuple[float, float]


@dataclass(frozen=True)
class Bench:
    """What was measured. Times belong to a machine; the ratios are of loops of one process, in turns.

    Attributes:
        timings: "original step", "computed step" and "cached step".
        ratios: time of each round's cached loop over that of the original's loop beside it.
        computed, steps: how many steps of the loop were computed.
        cache_bytes, held_bytes: of features, and of all that is held between steps, at the end of a loop.
        resident_bytes: the most memory that the process ever had; None where the system does not say.
        device_bytes: the most that was allocated on the GPU during the rounds; None where there is none.
    """

    timings: tuple[_Timing, ...]
    ratios: tuple[float, ...]
    computed: int
    steps: int
    cache_bytes: int
    held_bytes: int
    resident_bytes: int | None
    device_bytes: int | None

    @property
    def ratio(self) -> float:
        """The median ratio."""
        return statistics.median(self.ratios)

    @property
    def ideal(self) -> float:
        """The ratio if a cached step cost nothing and a computed one what the original costs."""
        return self.computed / self.steps

    def as_dict(self) -> dict[str, Any]:
        """The values by name."""
        return {**vars(self), "timings": [vars(timing) for timing in self.timings], "ideal": self.ideal}


@torch.no_grad()
def time_loops(
    fast: OptimizedModule,
    inputs: Mapping[str, Any],
    steps: int,
    rounds: int,
    notice: Callable[[str, int, int], None] = lambda *_: None,
) -> Bench:
    """Time loops of `steps` calls of the original model and of the optimised one, in turns, after one loop to warm up.

    Args:
        inputs: the keyword arguments of one call; only the timestep changes from call to call.
        steps: of a loop; those of the calibration, where the method has one.
        notice: called with what is running, calls done, and calls in all.

    Raises:
        CaptureError: the model has no weights to run with.
    """
    if any(weight.device.type == "meta" for weight in fast.model.parameters()):
        raise CaptureError(
            "the model has no weights: it is on the meta device, so it can be captured but not run.\n"
            "  Bench 'demo', or a function of yours that returns a model with weights: package.module:function."
        )
    name = fast.program("canonical").inputs_of("timestep")[0].name
    own = fast.rules.timesteps  # a calibrated method takes no others
    stamps = _falling(inputs[name], steps) if own is None else [torch.full_like(inputs[name], level) for level in own]
    calls: dict[str, list[tuple[float, float]]] = {"original step": [], "computed step": [], "cached step": []}
    ratios: list[float] = []
    computed: tuple[int, ...] = ()
    for turn in range(rounds + 1):
        fast.reset()
        loops = {}
        for label, module in (("original", fast.model), ("cached", fast)):
            loops[label] = [_time(module, {**inputs, name: stamp}) for stamp in stamps]
            notice(label, steps * (turn + 1), steps * (rounds + 1))
        computed = next(iter(fast.session.computed_steps.values()), ())
        if turn == 0:
            if torch.cuda.is_available():
                torch.cuda.reset_peak_memory_stats()
            continue  # captures, and fills what is allocated lazily
        ratios.append(sum(wall for wall, _ in loops["cached"]) / sum(wall for wall, _ in loops["original"]))
        calls["original step"] += loops["original"]
        for step, taken in enumerate(loops["cached"]):
            calls["computed step" if step in computed else "cached step"].append(taken)
    timings = tuple(_summarise(label, taken) for label, taken in calls.items() if taken)
    return Bench(
        timings,
        tuple(ratios),
        len(computed),
        steps,
        cache_bytes=fast.session.cache_bytes,
        held_bytes=fast.session.held_bytes,
        resident_bytes=peak_memory(),
        device_bytes=torch.cuda.max_memory_allocated() if torch.cuda.is_available() else None,
    )


def _falling(stamp: Tensor, steps: int) -> list[Tensor]:
    """As many timesteps as there are steps, falling from the example's own to near 0, all different."""
    top = float(stamp.double().max()) or 1.0
    if not stamp.is_floating_point():
        top = max(top, float(steps))
    return [torch.full_like(stamp, top * (1 - step / steps)) for step in range(steps)]


def _time(module: nn.Module, call: Mapping[str, Any]) -> tuple[float, float]:
    """Wall and CPU seconds of one call; what runs on a GPU is waited for."""
    wall, cpu = time.perf_counter(), time.process_time()
    module(**call)
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - wall, time.process_time() - cpu


def _summarise(label: str, taken: Sequence[tuple[float, float]]) -> _Timing:
    walls = [wall for wall, _ in taken]
    quarters = statistics.quantiles(walls, n=4) if len(walls) > 1 else [walls[0]] * 3
    cpu = statistics.median(cpu for _, cpu in taken)
    return _Timing(label, len(taken), statistics.median(walls), cpu, (quarters[0], quarters[2]))
