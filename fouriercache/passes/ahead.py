"""Cached steps whose timesteps are known: what they make of kept features alone, for several steps at once."""

from __future__ import annotations

import operator
from collections.abc import Iterable
from math import prod

import torch
from torch import fx

from fouriercache.cost.sizes import hinted
from fouriercache.passes.copies import copy_repeated
from fouriercache.passes.match import descendants, is_heavy, is_view
from fouriercache.passes.split import split
from fouriercache.passes.sum_updates import SumUpdates
from fouriercache.program import NoMatch, Program, Role, value_of
from fouriercache.steps import AheadPrograms

aten = torch.ops.aten

_OWN: tuple[Role, ...] = ("hoisted", "coefficients")
"""Roles of the inputs that differ from one cached step to the next, though neither latents nor what is kept do."""

_LEAST_READ = 8
"""Bytes that are read of kept tensors for each of a sum. A sum is written and read again, and four are kept at a time:
they are half of what the cache holds, at most."""


def look_ahead(moving: Program, *, fuses: bool) -> AheadPrograms | NoMatch:
    """Cut a cached step in two: sums that depend on no latents, and the rest.

    Args:
        moving: the moving part of a cached mode, which is left as it is.
        fuses: whether calls are run together, so that one read of a kept tensor serves several steps. Where each runs
            by itself, only what is the same for all steps is saved, as decoding is.

    Returns:
        Why not, where that saves nothing.
    """
    if moving.inputs_of("state", "control", "refresh"):
        return NoMatch("a cached step reads more than latents and kept values")
    whole = moving.clone()
    SumUpdates().apply(whole)
    sums, rest = split(whole, ("sample",), role="ahead")
    if not sums.outputs or rest.inputs_of("slot"):
        return NoMatch("latents are needed before all that is kept is summed")
    if _bytes(sums.inputs_of("slot")) < _LEAST_READ * _bytes(sums.results):
        return NoMatch("the sums are too large for what they are made of")
    if any(user.target is not aten.sym_size.int for node in sums.inputs_of("timestep") for user in node.users):
        return NoMatch("the sums read the timestep itself, which is known of one step alone")
    apart = descendants(sums.inputs_of(*_OWN))
    if is_heavy(apart):
        return NoMatch("every step has products of its own in its sums")
    calls = [node for node in sums.calls() if not is_view(node) and node.target is not operator.getitem]
    shared = sum(node not in apart for node in calls)
    if not fuses and 2 * shared < len(calls) - shared:
        return NoMatch("call by call, every step reads every kept value all the same")
    sums.verify()
    rest.verify()
    own = tuple(given for given in sums.inputs if given.role in _OWN)
    return AheadPrograms(sums, own, lambda count: copy_repeated(sums, sums.inputs_of(*_OWN), count), rest)


def _bytes(nodes: Iterable[fx.Node]) -> int:
    values = [value_of(node) for node in nodes]
    return sum(prod(map(hinted, value.shape)) * value.element_size() for value in values)
