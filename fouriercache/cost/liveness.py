"""How much memory a program's values take while it runs: liveness over the graph."""

from __future__ import annotations

from torch import fx

from fouriercache.cost.counts import bytes_of_node, is_launch
from fouriercache.cost.sizes import Size, hinted
from fouriercache.program import Program, Role

_CALLERS: tuple[Role, ...] = ("sample", "timestep", "conditioning")
"""Inputs that the caller holds as long as a step runs."""


def peak_bytes(program: Program, size: Size = hinted) -> int:
    """Bytes of the caller's inputs and of all values that live at once, at most, as the calls run in their order.

    A value lives from its call to the last one that reads it or a view of it, results to the end; this is the live
    range of register allocation (Aho and others, Compilers, 2nd edition, 8.4), and what the generated code of an FX
    graph frees by. Weights, kept features and hoisted values are not counted: they are there before and after. Nor is
    what a kernel takes for itself while it runs.

    Args:
        size: what dynamic sizes are.
    """
    owner = owners(program, size)
    last: dict[fx.Node, fx.Node] = {}
    for node in program.calls():
        for source in node.all_input_nodes:
            if source in owner:
                last[owner[source]] = node
    for result in program.results:
        if result in owner:
            last[owner[result]] = program.output_node
    ends: dict[fx.Node, list[fx.Node]] = {}
    for node, end in last.items():
        ends.setdefault(end, []).append(node)
    held = sum(bytes_of_node(node, size) for node in program.inputs_of(*_CALLERS))
    live = most = held
    for node in program.calls():
        if owner[node] is node:
            live += bytes_of_node(node, size)
            most = max(most, live)
        for dead in ends.get(node, ()):
            if owner.get(dead) is dead:
                live -= bytes_of_node(dead, size)
        if owner[node] is node and node not in last:
            live -= bytes_of_node(node, size)
    return most


def result_bytes(program: Program, size: Size = hinted) -> int:
    """Bytes that a program's results keep alive: those of the values themselves, or of what they are views of.

    Args:
        size: what dynamic sizes are.
    """
    owner = owners(program, size)
    held = dict.fromkeys(owner[result] for result in program.results if result in owner)
    return sum(bytes_of_node(node, size) for node in held if node in owner)


def owners(program: Program, size: Size) -> dict[fx.Node, fx.Node]:
    """The node whose memory each call's value lies in: the call itself, or for a view what it is a view of."""
    owner: dict[fx.Node, fx.Node] = {}
    for node in program.calls():
        source = next(iter(node.all_input_nodes), node)
        owner[node] = node if is_launch(node, size) else owner.get(source, source)
    return owner
