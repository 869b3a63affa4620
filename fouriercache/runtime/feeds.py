"""What the inputs of a mode's graphs are given."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeAlias

import torch
from torch import Tensor

from fouriercache.errors import MethodError
from fouriercache.predictors import Coefficients
from fouriercache.program import Input, Slot
from fouriercache.runtime.far import send
from fouriercache.runtime.pass_state import PassState
from fouriercache.runtime.session import Plan

_Wanted: TypeAlias = tuple[tuple[str, Any], ...]
"""The role of each input of a graph, and by what it is found: a slot by column and age, all else by name."""


@dataclass(frozen=True)
class Given:
    """What one step has. `made` are values of the roles "hoisted" and "ahead", by the names of what gave them."""

    named: Mapping[str, Tensor]
    made: Mapping[str, Tensor]
    coefficients: Coefficients
    state: PassState


class Feeds:
    """Finds the inputs of the graphs of one mode.

    Args:
        slots: what each input of the role "slot" holds. table: the shape of that of the role "coefficients"; () if
            there is none.
    """

    def __init__(self, slots: Mapping[str, Slot], table: tuple[int, ...]) -> None:
        self._slots, self._table = slots, table
        # those of a trajectory come back in the next one, and a host waits while they are sent to a GPU
        self._scalars = lru_cache(maxsize=1024)(_tensor)

    def wanted(self, inputs: Sequence[Input]) -> _Wanted:
        """Say where inputs come from, for `values`."""
        return tuple((given.role, self._key(given)) for given in inputs)

    def values(self, wanted: _Wanted, given: Given) -> list[Tensor]:
        """Return the inputs of a graph.

        Raises:
            MethodError: the coefficients are of another number of sites than the model has.
        """
        named, made, ring = given.named, given.made, given.state.ring
        device = next(iter(named.values())).device
        values: list[Tensor] = []
        for role, key in wanted:
            if role == "slot":
                kept = ring[key[0]]
                values.append(kept[min(key[1], len(kept) - 1)])
            elif role in ("hoisted", "ahead"):
                values.append(made[key])
            elif role == "coefficients":
                values.append(self._scalars(self._rows(given.coefficients), device))
            elif role == "state":
                values.append(given.state.states[key].to(device))
            else:
                values.append(named[key])
        return values

    def _key(self, given: Input) -> Any:
        if given.role == "slot":
            slot = self._slots[given.name]
            return slot.column, slot.age
        return given.name.removeprefix(f"{given.role}_") if given.role in ("hoisted", "ahead") else given.name

    def _rows(self, coefficients: Coefficients) -> Coefficients | tuple[float, ...]:
        """The scalars in the shape of the graph's input: one row, or [sites or 1][bands][K]."""
        if len(self._table) == 1:
            return coefficients[0][0]
        if len(coefficients) not in (1, self._table[0]):
            raise MethodError(
                f"the predictor has scalars for {len(coefficients)} sites, the model has {self._table[0]}.\n"
                "  Calibrate for this model and kind of site, or use a predictor that does not tell sites apart."
            )
        return coefficients * self._table[0] if len(coefficients) == 1 else coefficients


def controls_of(plan: Plan, device: torch.device) -> dict[str, Tensor]:
    """The inputs that say which ranks of its tokens each site computes, and at which step, made on the device.

    int64[count] for a site that computes some, and int64[].
    """
    ranks = {f"ranks_{site}": torch.arange(count, device=device) for site, count in enumerate(plan.counts)}
    return {**ranks, "step": torch.full((), plan.position.step, device=device)}


def _tensor(scalars: Coefficients | tuple[float, ...], device: torch.device) -> Tensor:
    with torch.inference_mode(False):  # it is used with and without
        return send(torch.tensor(scalars, dtype=torch.float32, device="cpu"), device)
