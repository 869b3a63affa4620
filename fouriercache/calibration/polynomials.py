"""TeaCache's polynomial: from how far the indicator moved to how far the denoiser's output will have moved."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from fouriercache.calibration.loop import Sample, hook_of
from fouriercache.errors import CalibrationError
from fouriercache.methods import Method
from fouriercache.optimize import optimize
from fouriercache.runtime.session import Position
from fouriercache.schedules import Accumulated, Polynomial

_DEGREE = 4
"""That of the published polynomials."""


def fit_polynomial(inputs: Any, outputs: Any, degree: int = _DEGREE) -> tuple[Polynomial, float]:
    """Return the least-squares polynomial from `inputs` to `outputs`, with its range, and R^2.

    R^2 is the share of the outputs' variance that the polynomial explains: 1 - residual / total, 1 when there is none.

    Args:
        inputs, outputs: float64 [n]; at least one more than the degree of them distinct.

    Raises CalibrationError when there are too few, or not all are finite.
    """
    x, y = np.asarray(inputs, dtype=np.float64), np.asarray(outputs, dtype=np.float64)
    if len(set(x.tolist())) <= degree or not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise CalibrationError(
            f"A polynomial of degree {degree} needs {degree + 1} different finite distances, got {len(set(x.tolist()))}"
            f" among {len(x)}.\n  Calibrate on more steps or trajectories; an indicator that never moves is of no use."
        )
    center, scale = float(x.mean()), float(x.std())
    # fitted in centred, scaled distances, where the powers are not all but parallel; then written out in plain ones
    scaled = np.polynomial.polynomial.polyfit((x - center) / scale, y, degree)
    plain = np.poly1d([0.0])
    for power, coefficient in enumerate(scaled):
        plain = plain + coefficient * np.poly1d([1 / scale, -center / scale]) ** power
    coefficients = tuple(float(value) for value in plain.coeffs)
    residual = float(np.square(np.polyval(coefficients, x) - y).sum())
    total = float(np.square(y - y.mean()).sum())
    found = Polynomial(coefficients, low=float(x.min()), high=float(x.max()))
    return found, 1.0 if total == 0 else 1 - residual / total


def record_changes(
    model: nn.Module, method: Method, sample: Sample, num_steps: int, options: Mapping[str, Any]
) -> tuple[list[float], list[float], tuple[float, ...]]:
    """Return the indicator's distances and the outputs' changes at every step after the first, and the timesteps.

    Both are relative L1 changes from the step before, mean |o_t - o_{t-1}| / mean |o_{t-1}|, in the uncached run, for
    every pass and trajectory. The polynomial that TeaCache publishes is fitted to these.

    Raises CalibrationError when the method's schedule is not `Accumulated`.
    """
    schedule = method.schedule
    if not isinstance(schedule, Accumulated):
        raise CalibrationError(f"Only an Accumulated schedule has a polynomial, not {schedule!r}.")
    identity = Polynomial((1.0, 0.0))
    every = replace(schedule, threshold=0.0, rescale=identity, first=1, last=0, max_skips=None)  # measures, computes
    fast = optimize(model, method.with_(schedule=every), num_steps=num_steps, **options)
    distances: list[float] = []
    changes: list[float] = []
    timesteps: dict[int, float] = {}
    before: dict[Hashable, Tensor] = {}

    def look(position: Position, outputs: list[Tensor]) -> None:
        now = torch.cat([output.flatten().float() for output in outputs])
        distance = fast.session.decisions[position.pass_key][-1].distance
        if distance is not None:
            old = before[position.pass_key]
            distances.append(distance)
            changes.append(float((now - old).abs().mean() / old.abs().mean()))
        before[position.pass_key] = now
        timesteps.setdefault(position.step, position.timestep[0])

    hook = fast.register_forward_hook(hook_of(look, fast))
    try:
        with torch.no_grad():
            sample(fast)
    finally:
        hook.remove()
    return distances, changes, tuple(timesteps[step] for step in sorted(timesteps))
