"""What is signal at a step: SeaCache's indicator."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Literal

from ..checks import check_choice, check_number
from ..errors import MethodError
from .noise import Flow, Noise

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Filtered:
    """A value through the Wiener filter of the step: frequencies that are noise at this step do not count.

    Natural images have the power 1 / f**beta, so at noise level b the filter of a signal scaled by a keeps the
    frequency f by `a S / (a**2 S + b**2)` with `S = 1 / f**beta`; `spectral.sea_filters` has the whole formula. Low
    frequencies count early in a trajectory, high ones late (SeaCache, arXiv 2602.18993).

    `beta` is 2 for images and 3 for video. `noise` says what a and b are at a timestep. `source` is what is filtered:
    the modulated input of the first block, as published, or the latents, as diffusers' SeaCache does.

    Raises MethodError when a field has a value that makes no sense.
    """

    name: ClassVar[str] = "filtered"
    is_filtered: ClassVar[bool] = True

    beta: float = 2.0
    noise: Noise = field(default_factory=Flow)
    source: Literal["modulated", "latents"] = "modulated"

    def __post_init__(self) -> None:
        check_number("Filtered", "beta", self.beta, above=0.0, advice="beta=2.0 suits images, beta=3.0 video.")
        if not isinstance(self.noise, Noise):
            raise MethodError(
                f"Filtered needs to know the noise of a timestep, got {self.noise!r}.\n"
                f"  where: Filtered(noise={self.noise!r})\n"
                "  Pass noise=Flow() for flow models, noise=DDPM(alphas_cumprod) for others."
            )
        check_choice("Filtered", "source", self.source, ("modulated", "latents"))

    def filters(self, sizes: Sequence[int], timestep: float) -> tuple[Tensor, ...]:
        """Return the circulant matrix of each axis, float64.

        Raises TrajectoryError when the timestep is none of the noise schedule's.
        """
        from ..spectral import sea_filters

        signal, noise = self.noise.levels(timestep)
        return sea_filters(sizes, signal, noise, self.beta)
