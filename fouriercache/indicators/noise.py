"""How much signal and how much noise the latents hold at a timestep."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import floor, isfinite, sqrt
from typing import Protocol, runtime_checkable

from ..checks import check_number
from ..errors import MethodError, TrajectoryError

_CLEAN = 1e-6
"""Neither signal nor noise is ever taken to be less: at 0 the filter's gain has no bound (SeaCache clamps sigma so)."""


@runtime_checkable
class Noise(Protocol):
    """Says what latents at a timestep are made of: `signal * image + noise * white noise`."""

    def levels(self, timestep: float) -> tuple[float, float]:
        """Return (signal, noise). Raises TrajectoryError when the timestep is none of this schedule's."""


@dataclass(frozen=True)
class Flow:
    """Flow models: signal 1 - sigma, noise sigma.

    The timestep is sigma times `scale`, as the model receives it: FLUX gets sigma itself, SD3 and Wan 1000 times it.
    Without `scale` a timestep of at most 1 is sigma, and a greater one 1000 times sigma. Sigma is kept 1e-6 away from 0
    and 1, as SeaCache does.

    Raises MethodError when `scale` is not a number above 0.
    """

    scale: float | None = None

    def __post_init__(self) -> None:
        if self.scale is not None:
            check_number("Flow", "scale", self.scale, above=0.0, advice="scale=1000.0 if timesteps begin near 1000.")

    def levels(self, timestep: float) -> tuple[float, float]:
        """Return (1 - sigma, sigma). Raises TrajectoryError when sigma is not from 0 to 1."""
        scale = self.scale if self.scale is not None else 1.0 if timestep <= 1 else 1000.0
        sigma = timestep / scale
        if not 0 <= sigma <= 1:
            raise TrajectoryError(
                f"Timestep {timestep!r} is no noise level of a flow model: sigma would be {sigma!r}.\n"
                f"  where: {self!r}\n"
                "  Pass Flow(scale=) what sigma is multiplied with; noise=DDPM(alphas_cumprod) if it is no flow model."
            )
        sigma = min(max(sigma, _CLEAN), 1 - _CLEAN)
        return 1 - sigma, sigma


@dataclass(frozen=True, init=False, repr=False)
class DDPM:
    """Models trained on a table of noise levels: signal sqrt(alpha_bar), noise sqrt(1 - alpha_bar).

    `alphas_cumprod` has alpha_bar for each training timestep: `DDPM(pipe.scheduler.alphas_cumprod.tolist())`. Between
    two whole timesteps alpha_bar is taken to be a straight line.

    Raises MethodError when the table is empty or a value is not a number from 0 to 1.
    """

    alphas_cumprod: tuple[float, ...]

    def __init__(self, alphas_cumprod: Sequence[float]) -> None:
        _check_table(alphas_cumprod)
        object.__setattr__(self, "alphas_cumprod", tuple(map(float, alphas_cumprod)))

    def __repr__(self) -> str:
        return f"DDPM({self.alphas_cumprod!r})"

    def levels(self, timestep: float) -> tuple[float, float]:
        """Return (sqrt(alpha_bar), sqrt(1 - alpha_bar)). Raises TrajectoryError when the table has no such timestep."""
        last = len(self.alphas_cumprod) - 1
        if not (isfinite(timestep) and 0 <= timestep <= last):
            raise TrajectoryError(
                f"Timestep {timestep!r} is not in the table of noise levels.\n"
                f"  where: DDPM with the timesteps 0 to {last}\n"
                "  Pass the alphas_cumprod of the scheduler that makes the timesteps, or noise=Flow() for a flow model."
            )
        below = min(floor(timestep), max(last - 1, 0))
        share = timestep - below
        after = self.alphas_cumprod[min(below + 1, last)]
        alpha = self.alphas_cumprod[below] * (1 - share) + after * share
        alpha = min(max(alpha, _CLEAN), 1 - _CLEAN)
        return sqrt(alpha), sqrt(1 - alpha)


def _check_table(table: object) -> None:
    advice = "Pass the scheduler's own table: DDPM(scheduler.alphas_cumprod.tolist())."
    if not isinstance(table, Sequence) or isinstance(table, str | bytes) or not table:
        raise MethodError(
            f"DDPM needs a list of alphas_cumprod, got {table!r} of type {type(table).__name__}.\n"
            f"  where: DDPM({table!r})\n"
            f"  {advice}"
        )
    for index, value in enumerate(table):
        check_number("DDPM", f"alphas_cumprod[{index}]", value, least=0.0, most=1.0, advice=advice)
