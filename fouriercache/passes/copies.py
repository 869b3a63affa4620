"""New graphs made of parts of others: every node is copied with all that it says of itself."""

from __future__ import annotations

import copy
from collections import ChainMap
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

from torch import fx

from fouriercache.errors import PassError
from fouriercache.passes.match import descendants
from fouriercache.program import Input, Output, Program


def copy_part(
    program: Program,
    results: Sequence[fx.Node],
    nodes: Collection[fx.Node],
    outputs: tuple[Output, ...],
    stops: Mapping[fx.Node, Input] | None = None,
) -> Program:
    """Copy a part of a program; attributes that the part does not read are not in it.

    Args:
        results: what the part returns. nodes: all that it is made of, `stops` among them. outputs: the results' roles.
        stops: nodes that become inputs, behind the others.
    """
    stops = stops or {}
    placeholders = program.placeholders
    inputs = [given for node, given in zip(placeholders, program.inputs, strict=True) if node in nodes]
    graph, copies = fx.Graph(), dict[fx.Node, fx.Node]()
    for node in placeholders:
        if node in nodes:
            copies[node] = graph.node_copy(node)
    for stop, given in stops.items():
        copies[stop] = graph.placeholder(given.name)
        copies[stop].meta["val"] = stop.meta["val"]
    for node in program.graph.nodes:
        if node in nodes and node not in copies and node.op != "output":
            copies[node] = graph.node_copy(node, lambda source: copies[source])
    for node, new in copies.items():
        wanted = stops[node].name if node in stops else node.name
        if new.name != wanted:
            raise PassError(f"the part already has a node called {wanted}")
    graph.output(tuple(copies[node] for node in results)).meta = copy.copy(program.output_node.meta)
    used = {str(node.target) for node in graph.find_nodes(op="get_attr")}
    return replace(
        program,
        graph=graph,
        attributes={name: value for name, value in program.attributes.items() if name in used},
        sources={name: source for name, source in program.sources.items() if name in used},
        inputs=(*inputs, *stops.values()),
        outputs=outputs,
        found=dict(program.found),
        slots=dict(program.slots),
        refused={name: list(reasons) for name, reasons in program.refused.items()},
    )


def copy_repeated(program: Program, own: Collection[fx.Node], count: int) -> Program:
    """Copy a program that does its work `count` times; what depends on none of the inputs `own` is done once.

    The inputs are those that are shared, then for each time those in `own`, with its number behind their names; the
    outputs are those of the first time, of the second, and so on. The copies of a call stand beside each other.
    """
    apart = descendants(own)
    graph = fx.Graph()
    shared: dict[fx.Node, fx.Node] = {}
    copies: list[dict[fx.Node, fx.Node]] = [{} for _ in range(count)]
    for node in program.placeholders:
        if node not in own:
            shared[node] = graph.node_copy(node)
    for number, mine in enumerate(copies):
        for node in program.placeholders:
            if node in own:
                mine[node] = graph.placeholder(f"{node.name}_{number}")
                mine[node].meta.update(node.meta)
    for node in program.graph.nodes:
        if node.op in ("placeholder", "output"):
            continue
        for mine in copies if node in apart else [shared]:
            mine[node] = graph.node_copy(node, ChainMap(mine, shared).__getitem__)
    results = [ChainMap(mine, shared)[node] for mine in copies for node in program.results]
    graph.output(tuple(results)).meta = copy.copy(program.output_node.meta)
    named = list(zip(program.placeholders, program.inputs, strict=True))
    inputs = [given for node, given in named if node not in own]
    for mine in copies:
        inputs += [Input(mine[node].name, given.role) for node, given in named if node in own]
    outputs = [Output(f"{out.name}_{number}", out.role) for number in range(count) for out in program.outputs]
    return replace(program, graph=graph, inputs=tuple(inputs), outputs=tuple(outputs))


def build_body(body: Program, operands: Mapping[str, fx.Node], results: Sequence[str]) -> fx.GraphModule:
    """Build the body of a control-flow call: a graph that reads its operands and nothing else.

    A weight read inside a body by `get_attr` becomes a fake tensor when torch traces the call, so weights are
    operands too.

    Args:
        operands: which operand of the call stands for each placeholder and weight of `body`, by name; operands in
            order of their first mention.
        results: names of what the body returns: its own calls, placeholders or weights.
    """
    graph = fx.Graph()
    given: dict[fx.Node, fx.Node] = {}
    copied: dict[str, fx.Node] = {}
    for name, operand in operands.items():
        if operand not in given:
            given[operand] = graph.placeholder(operand.name)
            given[operand].meta.update(operand.meta)
        copied[name] = given[operand]
    for node in body.graph.nodes:
        if node.name not in copied and node.op in ("call_function", "get_attr"):
            copied[node.name] = graph.node_copy(node, lambda source: copied[source.name])
    graph.output(tuple(copied[name] for name in results))
    nested = {str(node.target): body.attributes[str(node.target)] for node in graph.find_nodes(op="get_attr")}
    return fx.GraphModule(nested, graph, class_name="Body")
