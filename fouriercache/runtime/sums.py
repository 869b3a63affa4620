"""Cached steps that are known to come: what they make of kept features alone, for several of them at once."""

from __future__ import annotations

import threading
from collections.abc import Mapping

from torch import Tensor

from fouriercache.runtime.conditioning import Conditioning, Hoisted
from fouriercache.runtime.feeds import Feeds, Given
from fouriercache.runtime.parts import AheadParts, Executable
from fouriercache.runtime.pass_state import PassState
from fouriercache.runtime.session import Plan, Session

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

    def take(
        self,
        plan: Plan,
        named: Mapping[str, Tensor],
        state: PassState,
        conditioning: Conditioning,
        kept: Hoisted,
        session: Session,
    ) -> Mapping[str, Tensor] | None:
        """Return the sums of a step by name; None where it has to make its own.

        Args:
            kept: holds the hoisted values of the steps to come, and the sums that are made of them here.
        """
        step = plan.position.step
        if step not in kept.ahead or kept.made_of != (plan.computed, self._version()):
            kept.ahead.clear()
            found = session.following(plan)[:MOST_STEPS]
            if len(found) < 2:
                return None
            given = []
            for _, timestep, coefficients in found:
                hoisted = conditioning.known(kept, (timestep,))
                if hoisted is None:
                    return None
                given.append(Given(named, hoisted, coefficients, state))
            kept.ahead.update(zip((at for at, _, _ in found), self._make(given), strict=True))
            kept.made_of = plan.computed, self._version()
        return kept.ahead.pop(step)

    def _make(self, given: list[Given]) -> list[dict[str, Tensor]]:
        sums = self._for_steps(len(given))
        values = self._feeds.values(self._shared, given[0])
        for mine in given:
            values += self._feeds.values(self._own, mine)
        results, names = sums(values), self._parts.outputs
        return [dict(zip(names, results[i : i + len(names)], strict=True)) for i in range(0, len(results), len(names))]

    def _for_steps(self, count: int) -> Executable:
        with self._lock:
            if count not in self._made:
                self._made[count] = self._parts.sums(count)
            return self._made[count]

    def _version(self) -> tuple[int, ...]:
        """Changes whenever a weight does that the sums are made with: the same, whatever their number."""
        return next(iter(self._made.values())).version() if self._made else ()
