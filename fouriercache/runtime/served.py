"""Which sites a step that is not computed computes all the same, and for how many tokens. No tensors, no torch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

from fouriercache.errors import MethodError
from fouriercache.predictors import Predictor
from fouriercache.schedules import Place, Schedule, SiteSchedule, TokenCounts


class Served(NamedTuple):
    """How a step is served that the schedule does not compute.

    `refreshed` has the positions of the sites that are computed, `counts` how many tokens each site computes afresh,
    () when there are none at all.
    """

    mode: Literal["reuse", "partial"]
    refreshed: tuple[int, ...]
    counts: tuple[int, ...]


def by_site(schedule: Schedule) -> SiteSchedule | None:
    """Return the schedule when it tells sites apart; asked once for all steps, as protocols are slow to ask."""
    return schedule if isinstance(schedule, SiteSchedule) else None


def serve_step(
    schedule: SiteSchedule | None, tokens: TokenCounts | None, step: int, num_steps: int | None, places: Sequence[Place]
) -> Served:
    """Say how a step is served that the schedule does not compute, given where the model's sites stand.

    `schedule` is one that tells sites apart, see `by_site`, or None.
    """
    refreshed = () if schedule is None else schedule.refreshed(step, num_steps, places)
    counts: tuple[int, ...] = ()
    if tokens is not None:
        counts = tuple(
            tokens.count(place, step, num_steps) if place.tokens and site not in refreshed else 0
            for site, place in enumerate(places)
        )
    return Served("partial", refreshed, counts) if any(counts) else Served("reuse", refreshed, ())


def checked_tokens(tokens: TokenCounts | None, predictor: Predictor, num_steps: int | None) -> TokenCounts | None:
    """Return what says how many tokens are chosen, None when none are.

    Raises MethodError when it needs the number of steps and there is none, or the predictor reads older features: the
    chosen tokens are written into the newest one, and the older ones would be of other tokens.
    """
    if tokens is None:
        return None
    if predictor.history != 1:
        raise MethodError(
            f"Chosen tokens are written into the one kept feature, and the predictor {predictor.name!r} reads "
            f"{predictor.history}.\n"
            f"  where: {tokens!r} with {predictor!r}\n"
            "  Use predictor=Reuse(), or tokens=All()."
        )
    if tokens.needs_num_steps and num_steps is None:
        raise MethodError(
            "The number of chosen tokens depends on the number of steps of a trajectory, and it is not known.\n"
            f"  where: {tokens!r}\n"
            "  Pass optimize(..., num_steps=) the scheduler's number of steps."
        )
    return tokens
