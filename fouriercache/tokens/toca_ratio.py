"""ToCa's share of fresh tokens: more in some layers than in others, and more towards the end."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import ClassVar

from ..checks import check_choice, check_number
from ..errors import MethodError
from ..schedules import Place
from ..schedules.tapered import as_float32

_WEIGHTS = MappingProxyType({"ToCa-ddim50": (-0.2, 2.0), "ToCa-ddpm250": (0.8, 0.4)})
"""By the published name of the ratio schedule: the weights of layer and step."""

_MLP_FACTOR = 1 + 0.6 * 2.5
_LAST_LAYER = 27


@dataclass(frozen=True)
class ToCaRatio:
    """A share that is linear in the layer l and the published step index i = T - 1 ... 0.

    ::

        ratio * (1 + wl - 2 * wl * l / 27) * (1 + ws - 2 * ws * i / T) * 2.5, cut to [0, 1]

    with (wl, ws) = (-0.2, 2.0) for "ToCa-ddim50" and (0.8, 0.4) for "ToCa-ddpm250" (ToCa,
    DiT-ToCa/cache_functions/fresh_ratio_scheduler.py). 27 is published as it stands, the last layer of DiT-XL/2, and
    2.5 the factor of MLPs; that of attention is 0. "ToCa-ddim50" computes no token in the first quarter of the steps.
    The number of tokens is rounded down in float32, as there.

    Raises MethodError when `ratio` is not a number from 0 to 1, or `scheduler` is another word.
    """

    needs_num_steps: ClassVar[bool] = True
    is_static: ClassVar[bool] = False

    ratio: float = 0.07
    scheduler: str = "ToCa-ddim50"

    def __post_init__(self) -> None:
        check_number("ToCaRatio", "ratio", self.ratio, least=0, most=1, advice="0.07 is published.")
        check_choice("ToCaRatio", "scheduler", self.scheduler, tuple(_WEIGHTS))

    def share(self, layer: int, step: int, num_steps: int) -> float:
        """Return the share of tokens computed, from 0 to 1."""
        by_layer, by_step = _WEIGHTS[self.scheduler]
        index = num_steps - 1 - step
        layer_factor = 1 + by_layer - 2 * by_layer * layer / _LAST_LAYER
        step_factor = 1 + by_step - 2 * by_step * index / num_steps
        return min(1.0, max(0.0, as_float32(self.ratio * layer_factor * step_factor * _MLP_FACTOR)))

    def count(self, place: Place, step: int, num_steps: int | None) -> int:
        """Return the count of a site. Raises MethodError when `num_steps` is None."""
        if num_steps is None:
            raise MethodError(
                "ToCa's share of tokens depends on the number of steps, and it is not known.\n"
                f"  where: {self!r}, asked about step {step}\n"
                "  Pass num_steps= to optimize."
            )
        return int(as_float32(self.share(place.layer, step, num_steps) * place.tokens))
