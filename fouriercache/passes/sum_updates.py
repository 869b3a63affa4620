"""Add the cached updates to each other first, and the stream last."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import takewhile

import torch
from torch import fx

from fouriercache.passes.base import Pass
from fouriercache.passes.edit import insert_before, redirect, replace_uses
from fouriercache.passes.hoist_conditioning import hoistable
from fouriercache.passes.updates import type_text, updates_of
from fouriercache.program import NoMatch, Program, value_of

aten = torch.ops.aten


@dataclass(frozen=True)
class SumUpdates(Pass):
    """Sum the updates that follow one another on a stream by themselves, and add the sum to the stream.

    One more pass over the stream, and all of the sum depends on kept features, gates and scalars alone: it can be made
    before the latents of its step are there.

    Before::

        main(%0: f32[2,4,8] x, %1: f32[2,4,8] slot_0_0 (slot), %2: f32[2,4,8] slot_1_0 (slot), %3: f32[2,1,8] gate)
          %4: f32[2,4,8] = addcmul.default(%0, %3, %1)
          %5: f32[2,4,8] = addcmul.default(%4, %3, %2)
          return [%5]

    After::

        main(%0: f32[2,4,8] x, %1: f32[2,4,8] slot_0_0 (slot), %2: f32[2,4,8] slot_1_0 (slot), %3: f32[2,1,8] gate)
          %4: f32[2,4,8] = mul.Tensor(%3, %1)
          %5: f32[2,4,8] = addcmul.default(%4, %3, %2)
          %6: f32[2,4,8] = add.Tensor(%0, %5)
          return [%6]

    Requires: nothing.
    Keeps: 1. a single update.
           2. updates of which one depends on the latents, or what stands between them is read elsewhere.
           3. a first update that does not reach every token.
    Error: rounding; the sum is taken in another order.
    """

    def rewrite(self, program: Program) -> int:
        still = {node for node in program.graph.nodes if node.op in ("placeholder", "get_attr")}
        still -= set(program.inputs_of("sample"))
        still |= set(hoistable(program, ("sample",)))
        done: set[fx.Node] = set()
        count = 0
        for stream in list(program.graph.nodes):
            if stream in still or stream in done:
                continue
            row = list(takewhile(lambda update: still.issuperset(update.args[1:]), updates_of(stream)))
            done.update(row)
            if len(row) > 1:
                found = _move(stream, row)
                if found is not None:
                    self.refuse(program, found)
                count += found is None
        return count


def _move(stream: fx.Node, updates: list[fx.Node]) -> NoMatch | None:
    """Sum one row of updates by themselves; where that cannot be, say why."""
    first, last = updates[0], updates[-1]
    if len({type_text(node) for node in (stream, *updates)}) != 1:
        return NoMatch("the updates have another precision or shape than the stream", first.name)
    begun, added = _begin(first)
    if type_text(begun) != type_text(stream):
        for new in reversed(added):
            new.graph.erase_node(new)
        return NoMatch("the first update does not reach every token", first.name)
    readers, behind = list(last.users), last.next
    replace_uses(first, begun)
    first.graph.erase_node(first)
    total = insert_before(behind, aten.add.Tensor, stream, last, like=last)
    for reader in readers:
        redirect(reader, last, total)
    return None


def _begin(first: fx.Node) -> tuple[fx.Node, list[fx.Node]]:
    """What an update adds, in its precision; the nodes that were made for it."""
    terms = [term for term in first.args[1:] if isinstance(term, fx.Node)]
    want = value_of(first).dtype
    added = []
    for position, term in enumerate(terms):
        if value_of(term).ndim and value_of(term).dtype != want:
            terms[position] = insert_before(first, aten.to.dtype, term, want)
            added.append(terms[position])
    if len(terms) == 1:
        return terms[0], added
    added.append(insert_before(first, aten.mul.Tensor, *terms))
    return added[-1], added
