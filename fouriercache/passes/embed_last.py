"""Add the embedded tokens to the cached updates, and not the updates to the embedded tokens."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx

from fouriercache.passes.base import Pass
from fouriercache.passes.edit import insert_before, redirect, replace_uses
from fouriercache.passes.hoist_conditioning import fixed_values
from fouriercache.passes.match import CASTS, descendants
from fouriercache.passes.updates import only_reader, type_text, updates_of
from fouriercache.program import NoMatch, Program, sizes_of, tensor_of, value_of

aten = torch.ops.aten


@dataclass(frozen=True)
class EmbedLast(Pass):
    """Move the embedding of the tokens behind the updates that a cached step adds to it.

    A stream begins as a matrix product plus bias plus position, and the updates are added to it. Two passes over the
    stream are saved if they begin with bias and position, which are hoisted, and the product adds itself to the sum.

    Before::

        main(%0: f32[2,16,3] x, %1: f32[2,16,8] slot_0_0 (slot), %2: f32[2,1,8] gate)
          %3: f32[2,16,8] = linear.default(%0, @weight, @bias)
          %4: f32[2,16,8] = add.Tensor(%3, @position)
          %5: f32[2,16,8] = addcmul.default(%4, %2, %1)
          return [%5]

    After::

        main(%0: f32[2,16,3] x, %1: f32[2,16,8] slot_0_0 (slot), %2: f32[2,1,8] gate)
          %3: f32[3,8] = transpose.int(@weight, 0, 1)
          %4: f32[1,16,8] = add.Tensor(@position, @bias)
          %5: f32[2,16,8] = addcmul.default(%4, %2, %1)
          %6: f32[32,8] = flatten.using_ints(%5, 0, 1)
          %7: f32[32,3] = flatten.using_ints(%0, 0, 1)
          %8: f32[32,8] = addmm.default(%6, %7, %3)
          %9: f32[2,16,8] = view.default(%8, [-1, 16, 8])
          return [%9]

    Requires: nothing.
    Keeps: 1. an embedding without a bias, one of what is kept, or one to which nothing is added that is.
           2. one that something else reads as well.
           3. tokens whose number is dynamic.
           4. updates in another precision than the embedding, as those of half precision are summed in float32.
           5. a first update that does not reach every token.
    Error: rounding; the sum is taken in another order.
    """

    def rewrite(self, program: Program) -> int:
        fixed, kept = fixed_values(program), descendants(program.inputs_of("slot", "state"))
        count = 0
        for linear in list(program.graph.find_nodes(op="call_function", target=aten.linear.default)):
            if linear in fixed or linear in kept or len(linear.args) < 3 or not fixed.issuperset(linear.args[1:]):
                continue
            stream, position = _positioned(linear, fixed)
            updates = updates_of(stream)
            if kept.isdisjoint(updates):
                if (reader := only_reader(stream)) is not None and reader.target in CASTS:
                    self.refuse(program, NoMatch("what is added is summed in another precision", linear.name))
                continue
            if (found := _move(linear, position, updates)) is not None:
                self.refuse(program, found)
                continue
            for dead in dict.fromkeys((updates[0], stream, linear)):
                program.graph.erase_node(dead)
            count += 1
        return count


def _positioned(linear: fx.Node, fixed: set[fx.Node]) -> tuple[fx.Node, fx.Node | None]:
    """The stream as it begins, and the position in it, if one is added."""
    reader = only_reader(linear)
    if reader is not None and reader.target is aten.add.Tensor and not reader.kwargs:
        others = [argument for argument in reader.args if argument is not linear]
        if len(others) == 1 and isinstance(others[0], fx.Node) and others[0] in fixed:
            return reader, others[0]
    return linear, None


def _move(linear: fx.Node, position: fx.Node | None, updates: list[fx.Node]) -> NoMatch | None:
    """Move one embedding; where it cannot be, say why."""
    given, tokens = linear.args[0], tensor_of(linear.args[0])
    if len({type_text(node) for node in (linear, *updates)}) != 1:
        return NoMatch("what is added has another precision or shape", linear.name)
    sizes = sizes_of(value_of(linear))[1:]
    if tokens is None or tokens.ndim != 3 or not all(isinstance(size, int) for size in sizes):
        return NoMatch("the stream is not [batch, tokens, channels] of a known number", linear.name)
    (weight, bias), first, last = linear.args[1:3], updates[0], updates[-1]
    added = [] if position is None else [_insert_fixed(linear, aten.add.Tensor, position, bias)]
    start: Any = added[0] if added else bias
    begun = insert_before(first, first.target, start, *first.args[1:])  # type: ignore[arg-type]
    if type_text(begun) != type_text(linear):
        for new in (begun, *added):
            new.graph.erase_node(new)
        return NoMatch("the first update does not reach every token", linear.name)
    replace_uses(first, begun)
    end = begun if last is first else last
    readers, behind = list(end.users), end.next
    total = insert_before(behind, aten.flatten.using_ints, end, 0, 1, like=linear)
    rows = insert_before(behind, aten.flatten.using_ints, given, 0, 1, like=linear)
    matrix = _insert_fixed(linear, aten.transpose.int, weight, 0, 1)
    product = insert_before(behind, aten.addmm.default, total, rows, matrix, like=linear)
    stream = insert_before(behind, aten.view.default, product, [-1, *sizes], like=linear)
    for reader in readers:
        redirect(reader, end, stream)
    return None


def _insert_fixed(linear: fx.Node, target: Callable[..., Any], *args: Any) -> fx.Node:
    """Add a call right behind what it is made of, in front of all others if that is weights and inputs."""
    sources = [argument for argument in args if isinstance(argument, fx.Node)]
    calls = [source for source in sources if source.op == "call_function"]
    anchor = max(calls).next if calls else next(node for node in linear.graph.nodes if node.op == "call_function")
    while anchor in sources:
        anchor = anchor.next
    for source in sources:
        if source.op == "get_attr" and not source < anchor:
            anchor.prepend(source)
    return insert_before(anchor, target, *args, like=linear)
