"""Let the step choose between the computed and the predicted value of every site."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import fx

from fouriercache import ops
from fouriercache.errors import PreconditionError
from fouriercache.passes.base import Pass
from fouriercache.passes.edit import insert_after, insert_input, redirect
from fouriercache.passes.insert_cache import find_lookups
from fouriercache.program import Program, Site, tensor_of


@dataclass(frozen=True)
class InsertGate(Pass):
    """Put `select(refresh, computed, predicted)` behind every site; `refresh` is one new input.

    The canonical rewritten graph keeps both alternatives in the open; `SpecializeStep` and `OutlineCond` resolve it.

    Before::

        main(%0: f32[2,8] x, %1: f32[2,8] slot_0_0 (slot), %2: f32[1] coefficients)
          %3: f32[2,8] = add.Tensor(%0, 1)
          %4: f32[1,2,8] = fouriercache.cache_lookup([%1])
          %5: f32[2,8] = fouriercache.predict(%4, %2)
          return [%3, %3]

    After::

        main(%0: f32[2,8] x, %1: f32[2,8] slot_0_0 (slot), %2: f32[1] coefficients, %3: bool[] refresh)
          %4: f32[2,8] = add.Tensor(%0, 1)
          %5: f32[1,2,8] = fouriercache.cache_lookup([%1])
          %6: f32[2,8] = fouriercache.predict(%5, %2)
          %7: f32[2,8] = fouriercache.select(%3, %4, %6)
          return [%7, %4]

    Requires: `InsertPredictor`, and not yet `SpecializeStep`.
    Keeps: 1. a program that has a gate.
           2. what is kept: slots always receive the computed value.
    Error: exact.
    """

    def requires(self, program: Program) -> None:
        if not program.inputs_of("coefficients"):
            raise PreconditionError(
                "InsertGate needs predictions to choose from, found none.\n  Run InsertPredictor first."
            )
        nodes = program.named()
        gone = [site.name for site in program.sites if site.value not in nodes]
        if gone and not program.inputs_of("refresh"):
            raise PreconditionError(
                f"InsertGate needs both alternatives, but the computed value of {gone[0]} is gone.\n"
                "  Run it before SpecializeStep."
            )

    def rewrite(self, program: Program) -> int:
        if program.inputs_of("refresh"):
            return 0
        like = tensor_of(program.inputs_of("coefficients")[0])
        assert like is not None
        refresh = insert_input(program, "refresh", like.new_empty((), dtype=torch.bool), "refresh")
        nodes = program.named()
        for site, lookup in zip(program.sites, find_lookups(program), strict=True):
            predicted = _prediction(site, lookup)
            computed = nodes[site.value]
            chosen = insert_after(predicted, ops.select, refresh, computed, predicted, like=computed)
            chosen.meta["site"] = site.name  # says what SpecializeStep decides on
            _redirect(program, computed, chosen, program.columns(site))
        return len(program.sites)


def _prediction(site: Site, lookup: fx.Node) -> fx.Node:
    """What stands in for the site's value: the prediction, transformed back if it is one of coefficients, and added to
    the stream where a difference is kept.
    """
    (node,) = (user for user in lookup.users if user.target is ops.predict)
    for user in list(node.users):
        if user.target is ops.fft_expand:
            node = user
    return next(iter(node.users)) if site.is_residual else node


def _redirect(program: Program, computed: fx.Node, chosen: fx.Node, columns: tuple[str, ...]) -> None:
    """Make everything below a site read the choice; what is kept of the site, and all it is made of, is computed."""
    pairs = list(zip(program.results, program.outputs, strict=True))
    kept = {node for node, output in pairs if output.role == "slot" and output.name in columns}
    making = _between(computed, kept)
    for user in list(computed.users):
        if user not in making and user not in (chosen, program.output_node):
            redirect(user, computed, chosen)
    results = [chosen if node is computed and output.role != "slot" else node for node, output in pairs]
    program.set_outputs(results, program.outputs)


def _between(start: fx.Node, ends: set[fx.Node]) -> set[fx.Node]:
    """The ends, and what they are made of that comes after `start`: all that may read it, and not the whole graph."""
    found: set[fx.Node] = set()
    todo = list(ends)
    while todo:
        node = todo.pop()
        if node not in found and not node < start:
            found.add(node)
            todo += node.all_input_nodes
    return found
