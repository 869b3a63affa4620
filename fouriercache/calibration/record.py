"""What is measured before the search: the uncached outputs' Gram matrix, and how much each output matters."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fouriercache.calibration.gaps import Array
from fouriercache.calibration.loop import Loop
from fouriercache.errors import CalibrationError
from fouriercache.runtime.session import Position


@dataclass(frozen=True)
class Recording:
    """The uncached run.

    Attributes:
        gram: float64 [T, T], inner products of the denoiser's outputs, summed over passes and trajectories.
        timesteps: the T timesteps as the model receives them, of the first trajectory.
        reference: float32 [n, ...], what the calibration set comes to.
    """

    gram: Array
    timesteps: tuple[float, ...]
    reference: Tensor


def record(loop: Loop) -> Recording:
    """Run the calibration set with every step computed.

    Raises CalibrationError when the sampler takes another number of steps than `loop.num_steps`.
    """
    outputs = _Outputs(loop.num_steps)
    reference = loop.run(tuple(range(loop.num_steps)), outputs)
    outputs.close()
    return Recording(outputs.gram, tuple(outputs.timesteps.values()), reference)


class _Outputs:
    """Collects the outputs of one trajectory at a time; keeps the sum of their Gram matrices."""

    def __init__(self, num_steps: int) -> None:
        self.gram: Array = np.zeros((num_steps, num_steps))
        self.timesteps: dict[int, float] = {}
        self._num_steps = num_steps
        self._passes: dict[Hashable, list[Tensor]] = {}

    def __call__(self, position: Position, outputs: list[Tensor]) -> None:
        if position.is_new_trajectory:
            self.close()
        values = torch.cat([output.flatten().float() for output in outputs])
        passes = self._passes.setdefault(position.pass_key, [])
        passes.append(values)
        self.timesteps.setdefault(position.step, position.timestep[0])

    def close(self) -> None:
        """End a trajectory."""
        if not self._passes:
            return
        for values in self._passes.values():
            if len(values) != self._num_steps:
                raise CalibrationError(
                    f"The sampler took {len(values)} steps, and num_steps says {self._num_steps}.\n"
                    "  Give num_steps= the number of denoiser calls in a trajectory, passes of a step counted once."
                )
            stacked = torch.stack(values)
            self.gram += (stacked @ stacked.T).double().cpu().numpy()
        self._passes = {}


def measure_sensitivity(loop: Loop, table: tuple[int, ...], result: Tensor, step: int) -> float:
    """Return the squared change of the final result for a unit squared change of the output of `step`.

    In a run with `table` computed, the output of `step` is replaced by that of the step before it: an error of the
    kind and size that caching makes. The rest of the run goes on as it would.

    Args:
        result: what the set comes to with `table`, unchanged.
        step: at least 1.
    """
    before: dict[Hashable, list[Tensor]] = {}
    change = 0.0

    def replace(position: Position, outputs: list[Tensor]) -> list[Tensor] | None:
        nonlocal change
        if position.step == step - 1:
            before[position.pass_key] = [output.clone() for output in outputs]  # a sampler may write into them
        if position.step != step:
            return None
        old = before[position.pass_key]
        pairs = zip(outputs, old, strict=True)
        change += sum(float((new - previous).double().square().sum()) for new, previous in pairs)
        return old

    final = loop.run(table, replace)
    moved = float((final - result).double().square().sum())
    return moved / change if change else 0.0


def spread(measured: dict[int, float], num_steps: int) -> Array:
    """Return the sensitivity of every step, float64 [T], from that of some: straight lines between the logarithms."""
    steps = sorted(measured)
    smallest = max(max(measured.values()), 1e-30) * 1e-12
    logs = [float(np.log(max(measured[step], smallest))) for step in steps]
    found: NDArray[np.float64] = np.exp(np.interp(np.arange(num_steps), steps, logs))
    return found


def choose_probes(num_steps: int, count: int) -> tuple[int, ...]:
    """Return up to `count` steps from 1 to the last, evenly spaced, the ends among them."""
    spaced = np.linspace(1, num_steps - 1, min(count, num_steps - 1))
    return tuple(sorted({round(float(step)) for step in spaced}))
