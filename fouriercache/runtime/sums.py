"""Cached steps that are known to come: what they make of kept features alone, for several of them at once."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence

from torch import Tensor

from fouriercache.predictors import Coefficients
from fouriercache.runtime.conditioning import Conditioning, Hoisted
from fouriercache.runtime.feeds import Feeds, Given
from fouriercache.runtime.parts import AheadParts, Executable
from fouriercache.runtime.pass_state import PassState
from fouriercache.runtime.session import Plan

MOST_STEPS = 4
"""Steps whose sums are made at once: each sum is as large as the token stream, and is kept until its step comes."""


class SumsAhead:
    """Makes the sums of the cached steps that follow one another, when the first of them comes.

    Every kept feature is then read once for all of them. The sums serve the steps they were made for and no others:
    they are made anew when a feature, the conditioning or a weight they were made of is another.
    """

    def __init__(self, parts: AheadParts, feeds: Feeds) -> None:
        self.rest = parts.rest
        self.wanted = feeds.wanted(parts.rest.inputs)
        self._parts, self._feeds = parts, feeds
        self._shared, self._own = feeds.wanted(parts.shared), feeds.wanted(parts.own)
        self._made: dict[int, Executable] = {}
        self._lock = threading.Lock()

    def find(self, plan: Plan, kept: Hoisted) -> Mapping[str, Tensor] | None:
        """Return the sums that were made for the step, and forget them; None if there are none that it may use."""
        step = plan.position.step, plan.position.timestep
        if step in kept.sums and kept.made_of is not None:
            computed, made_by, version = kept.made_of
            if computed == plan.computed and made_by.version() == version:
                return kept.sums.pop(step)
        kept.sums.clear()
        return None

    def make(
        self,
        plan: Plan,
        steps: Sequence[tuple[int, float, Coefficients]],
        named: Mapping[str, Tensor],
        state: PassState,
        conditioning: Conditioning,
        kept: Hoisted,
    ) -> Mapping[str, Tensor] | None:
        """Make the sums of `steps`, and return those of the first; None where hoisted values are not known of all.

        Args:
            steps: timestep and coefficients of each. kept: holds their hoisted values, and the sums of the others.
        """
        given = []
        for _, timestep, coefficients in steps:
            hoisted = conditioning.known(kept, (timestep,))
            if hoisted is None:
                return None
            given.append(Given(named, hoisted, coefficients, state))
        sums, names = self._for_steps(len(given)), self._parts.outputs
        values = self._feeds.values(self._shared, given[0])
        for mine in given:
            values += self._feeds.values(self._own, mine)
        results = iter(sums(values))
        kept.sums = {(step, (at,)): dict(zip(names, results, strict=False)) for step, at, _ in steps}
        kept.made_of = plan.computed, sums, sums.version()
        return kept.sums.pop((plan.position.step, plan.position.timestep))

    def _for_steps(self, count: int) -> Executable:
        with self._lock:
            if count not in self._made:
                self._made[count] = self._parts.sums(count)
            return self._made[count]
