"""Steps that are known to come, though nobody prepared them."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from fouriercache.runtime.call import Timestep
from fouriercache.runtime.clock import Direction

MOST_LISTED = 24
"""Steps of a sampler's list for which hoisted values are made at once. The weights are then read a few times in a run,
and what is held is small beside the features of as many tokens."""


def runs_on(timesteps: Timestep, count: int, direction: Direction) -> bool:
    """Whether these are `count` timesteps, each of them further on than the one before."""
    ascending = timesteps if direction == "up" else timesteps[::-1]
    return len(timesteps) == count and all(low < high for low, high in pairwise(ascending))


def whole_runs(steps: Sequence[int], most: int) -> Sequence[int]:
    """Return the first `most` of ascending numbers, or fewer: no run of numbers in a row is cut but the first."""
    end = min(most, len(steps))
    while 0 < end < len(steps) and steps[end] == steps[end - 1] + 1:
        end -= 1
    return steps[: end or most]
