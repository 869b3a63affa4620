"""Look at a step's indicator: run the probe, read one distance back."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import isfinite

import torch
from torch import Tensor

from fouriercache.errors import TrajectoryError
from fouriercache.indicators import Indicator
from fouriercache.runtime.call import show_timestep
from fouriercache.runtime.conditioning import Conditioning, Hoisted
from fouriercache.runtime.parts import ProbeParts


@dataclass(frozen=True)
class Look:
    """One step's indicator, for the next step to be compared with; and its distance from the last one, if asked for."""

    states: Mapping[str, Tensor]
    distance: float | None


class Probe:
    """Runs the probe of an adaptive schedule. Holds no state of any request."""

    def __init__(self, ready: ProbeParts, indicator: Indicator, stamp_name: str) -> None:
        parts = ready.parts
        self._conditioning = Conditioning(parts.context, parts.timed, parts.rows)
        self._compare, self._first = parts.moving, ready.first
        self._stamp_name = stamp_name
        self._indicator = indicator
        self._sizes = [size for size, _ in ready.filters]
        self._dtypes = [dtype for _, dtype in ready.filters]
        self._controls = [given.name for given in parts.moving.inputs if given.role == "control"]
        # the matrices of a trajectory come back in the next one; the bound keeps a long-lived probe small
        self._filters = lru_cache(maxsize=1024)(self._make_filters)

    @torch.no_grad()
    def look(
        self,
        named: Mapping[str, Tensor],
        kept: Hoisted,
        stamp: tuple[float, ...],
        ahead: Callable[[], Sequence[float]],
        states: Mapping[str, Tensor],
        *,
        is_compared: bool,
    ) -> Look:
        """Compute the indicator of a step, without gradients: a decision has none.

        Args:
            named: the call's tensors by input name. stamp: its timestep's values.
            kept, ahead: as in `Conditioning.values`.
            states: holds the last indicator if the two are compared.
            is_compared: whether the distance is wanted; reading it back waits for the device.

        Raises:
            TrajectoryError: the distance is not finite, or there is no filter for the timestep.
        """
        same = stamp[:1] if stamp.count(stamp[0]) == len(stamp) else stamp
        values: dict[str, Tensor] = {**named, **states}
        if self._controls:
            device = next(iter(named.values())).device
            values |= zip(self._controls, self._filters(_one(same, self._indicator), device), strict=True)
        if not self._conditioning.is_empty:
            hoisted = self._conditioning.values(kept, named, self._stamp_name, same, ahead)
            values |= {f"hoisted_{name}": value for name, value in hoisted.items()}
        part = self._compare if is_compared else self._first
        found = dict(zip(part.outputs, part([values[given.name] for given in part.inputs]), strict=True))
        distance = found.pop("distance", None)
        return Look(found, None if distance is None else self._ratio(distance, same))

    def _ratio(self, means: Tensor, stamp: tuple[float, ...]) -> float:
        change, size = means.tolist()
        if not (isfinite(change) and isfinite(size) and size > 0):
            raise TrajectoryError(
                f"The indicator's change cannot be measured: it is {change}, where the indicator itself is {size}.\n"
                f"  where: timestep {show_timestep(stamp)}, {self._indicator!r}\n"
                "  Look for NaN or inf in the latents and weights, of this step and of the one before; reset() before\n"
                "  a new trajectory."
            )
        return float(change / size)

    def _make_filters(self, timestep: float, device: torch.device) -> list[Tensor]:
        matrices = self._indicator.filters(self._sizes, timestep)
        return [matrix.to(device=device, dtype=dtype) for matrix, dtype in zip(matrices, self._dtypes, strict=True)]


def _one(stamp: tuple[float, ...], indicator: Indicator) -> float:
    if len(stamp) > 1:
        raise TrajectoryError(
            "The samples of one batch have different timesteps, and the indicator's filter belongs to one.\n"
            f"  where: timestep {show_timestep(stamp)}, {indicator!r}\n"
            "  Use an indicator without a filter (Modulated), or a session for each sample."
        )
    return stamp[0]
