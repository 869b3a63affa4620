"""Cached steps whose timesteps are known: what they make of kept features alone, for several steps at once."""

from __future__ import annotations

import operator

from fouriercache.passes.copies import copy_repeated
from fouriercache.passes.match import descendants, is_heavy, is_view
from fouriercache.passes.split import split
from fouriercache.passes.sum_updates import SumUpdates
from fouriercache.program import Program, Role
from fouriercache.steps import AheadPrograms

_OWN: tuple[Role, ...] = ("hoisted", "coefficients")
"""Roles of the inputs that differ from one cached step to the next, though neither latents nor what is kept do."""

_LEAST_READ = 4
"""Kept tensors for each sum. A sum is written and read again: below this, a step might as well make its own."""


def look_ahead(moving: Program, *, fuses: bool) -> AheadPrograms | None:
    """Cut a cached step in two: sums that depend on no latents, and the rest; None where that saves nothing.

    Args:
        moving: the moving part of a cached mode, which is left as it is.
        fuses: whether calls are run together, so that one read of a kept tensor serves several steps. Where each runs
            by itself, only what is the same for all steps is saved, as decoding is.
    """
    if moving.inputs_of("state", "control", "refresh"):
        return None
    whole = moving.clone()
    SumUpdates().apply(whole)
    sums, rest = split(whole, ("sample",), role="ahead")
    read = len(sums.inputs_of("slot"))
    if not sums.outputs or rest.inputs_of("slot") or read < _LEAST_READ * len(sums.outputs):
        return None
    apart = descendants(sums.inputs_of(*_OWN))
    calls = [node for node in sums.calls() if not is_view(node) and node.target is not operator.getitem]
    shared = sum(node not in apart for node in calls)
    if is_heavy(apart) or (not fuses and 2 * shared < len(calls) - shared):
        return None
    sums.verify()
    rest.verify()
    own = tuple(given for given in sums.inputs if given.role in _OWN)
    return AheadPrograms(sums, own, lambda count: copy_repeated(sums, sums.inputs_of(*_OWN), count), rest)
