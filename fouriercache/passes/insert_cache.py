"""Give every site its slots."""

from __future__ import annotations

import operator
from dataclasses import dataclass

import torch

from fouriercache import ops
from fouriercache.errors import PreconditionError, UnsupportedModelError
from fouriercache.passes.base import Pass
from fouriercache.passes.edit import insert_after, insert_input
from fouriercache.passes.match import shared_with
from fouriercache.program import Output, Program, Slot, tensor_of

aten = torch.ops.aten
_CUTS = {aten.slice.Tensor, aten.select.int, aten.narrow.default, aten.as_strided.default, operator.getitem}


@dataclass(frozen=True)
class InsertCache(Pass):
    """Read the last `history` values of every site from slots, and return each site's new value.

    Slots are graph inputs, newest first; the new values are graph outputs. Nothing else holds state. A residual site
    (block, stack) keeps the difference of its output and its input.

    Before::

        main(%0: f32[2,8])
          %1: f32[2,8] = add.Tensor(%0, 1)
          return [%1]

    After::

        main(%0: f32[2,8] x, %1: f32[2,8] site.0 (slot))
          %2: f32[2,8] = add.Tensor(%0, 1)
          %3: f32[1,2,8] = fouriercache.cache_lookup([%1])
          return [%2, %2]

    (The site is `%1` of the graph before, the history 1.)

    Requires: `FindSites` has found sites of the asked kind.
    Keeps: 1. a program that has slots.
    Error: exact.
    """

    site: str = "branch"
    history: int = 1

    def requires(self, program: Program) -> None:
        if not program.found:
            raise PreconditionError(
                f"InsertCache needs sites, found none in {sum(1 for _ in program.calls())} calls.\n"
                "  Run FindSites first."
            )
        if self.site not in program.found:
            raise PreconditionError(f"InsertCache(site={self.site!r}): the sites are {', '.join(program.found)}")
        if not program.found[self.site]:
            reasons = "\n".join(f"    {r.reason}" for r in program.refused.get("FindSites", ()))
            raise UnsupportedModelError(
                f"the model has no {self.site} site that can be proved.\n{reasons}\n"
                f"  Use another site: {', '.join(f'{k} ({len(v)})' for k, v in program.found.items() if v)}."
            )

    def rewrite(self, program: Program) -> int:
        if program.history:
            return 0
        sites = program.found[self.site]
        outputs = list(program.outputs)
        results = list(program.results)
        nodes = program.named()
        for position, site in enumerate(sites):
            value = nodes[site.value]
            slots = [
                insert_input(program, f"slot_{position}_{k}", tensor_of(value), "slot") for k in range(self.history)
            ]
            kept = value
            if site.is_residual:
                kept = insert_after(value, aten.sub.Tensor, value, nodes[site.spine])
            elif shows_part(value):
                # A slot that is a view would keep the whole tensor alive from step to step.
                kept = insert_after(value, aten.clone.default, value)
            program.slots |= {slot.name: Slot(site.name, age, site.name) for age, slot in enumerate(slots)}
            insert_after(kept, ops.cache_lookup, slots)
            results.append(kept)
            outputs.append(Output(site.name, "slot"))
        program.set_outputs(results, outputs)
        program.sites, program.history = sites, self.history
        return len(sites)


def shows_part(value: torch.fx.Node) -> bool:
    """Whether the value is a part of a larger tensor."""
    return any(node.target in _CUTS for node in shared_with(value))


def find_lookups(program: Program) -> list[torch.fx.Node]:
    """Return the `cache_lookup` node of every site, in the order of the sites.

    Raises:
        PreconditionError: a site has none.
    """
    by_slot = {
        _first_slot(node).name: node for node in program.graph.find_nodes(op="call_function", target=ops.cache_lookup)
    }
    for position, site in enumerate(program.sites):
        if f"slot_{position}_0" not in by_slot:
            raise PreconditionError(f"site {site.name} has no cache_lookup node.\n  Run InsertCache first.")
    return [by_slot[f"slot_{position}_0"] for position in range(len(program.sites))]


def _first_slot(lookup: torch.fx.Node) -> torch.fx.Node:
    """The slot that a lookup's first entry is read from: what decodes it has the slot, or its first part, in front."""
    node = lookup
    while node.op == "call_function":
        node = node.all_input_nodes[0]
    return node
