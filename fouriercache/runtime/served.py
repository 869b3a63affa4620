"""Which sites a step that is not computed computes all the same, and for how many tokens. No tensors, no torch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

from ..schedules import Place, Schedule, SiteSchedule, TokenCounts


class Served(NamedTuple):
    """How a step is served that the schedule does not compute.

    `refreshed` has the positions of the sites that are computed, `counts` how many tokens each site computes afresh,
    () when there are none at all.
    """

    mode: Literal["reuse", "partial"]
    refreshed: tuple[int, ...]
    counts: tuple[int, ...]


def serve_step(
    schedule: Schedule, tokens: TokenCounts | None, step: int, num_steps: int | None, places: Sequence[Place]
) -> Served:
    """Say how a step that `schedule` does not compute is served, given where the model's sites stand."""
    refreshed: tuple[int, ...] = ()
    if isinstance(schedule, SiteSchedule):
        refreshed = schedule.refreshed(step, num_steps, places)
    counts: tuple[int, ...] = ()
    if tokens is not None:
        counts = tuple(
            tokens.count(place, step, num_steps) if place.tokens and site not in refreshed else 0
            for site, place in enumerate(places)
        )
    return Served("partial", refreshed, counts) if any(counts) else Served("reuse", refreshed, ())
