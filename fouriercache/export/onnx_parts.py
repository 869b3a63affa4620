"""Cut an ONNX graph into parts at values that have names, as `passes` cut the program that it was made from."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto, NodeProto, ValueInfoProto


def part_of(
    model: ModelProto, outputs: Sequence[str], stops: Mapping[str, str], order: Sequence[str]
) -> tuple[ModelProto, tuple[str, ...]]:
    """Return what computes `outputs`, and the names of its inputs in the model's order.

    Args:
        model: its weights in a file of their own. outputs: names of values, returned under these names.
        stops: values that become inputs -> the inputs' names. order: of the inputs.
    """
    import onnx

    wanted, nodes = _ancestors(model.graph, outputs, stops)
    used = [name for name in order if name in wanted]
    types = {value.name: value for value in (*model.graph.input, *model.graph.output, *model.graph.value_info)}
    by_input = {new: old for old, new in stops.items()}
    part = onnx.ModelProto()
    part.CopyFrom(model)
    part.ClearField("graph")
    graph = part.graph
    graph.name = model.graph.name
    graph.node.extend(nodes)
    graph.initializer.extend(weight for weight in model.graph.initializer if weight.name in wanted)
    graph.input.extend(_named(types[by_input.get(name, name)], name) for name in used)
    graph.output.extend(types[name] for name in outputs)
    ends = {*used, *outputs}
    inner = {name for node in nodes for name in node.output} - ends
    graph.value_info.extend(value for value in model.graph.value_info if value.name in inner)
    return part, tuple(used)


def _ancestors(
    graph: GraphProto, outputs: Collection[str], stops: Mapping[str, str]
) -> tuple[set[str], list[NodeProto]]:
    """The values that `outputs` are made from, up to the stops, and the nodes that make them, in order.

    What a stop gives is read under the stop's name as an input.
    """
    wanted, found = set(outputs), []
    for node in reversed(graph.node):
        if not wanted.intersection(node.output):
            continue
        copy = type(node)()
        copy.CopyFrom(node)
        _rename(copy, stops)
        found.append(copy)
        wanted.update(_read_by(copy))
    return wanted, found[::-1]


def _rename(node: NodeProto, names: Mapping[str, str]) -> None:
    for position, name in enumerate(node.input):
        if name in names:
            node.input[position] = names[name]
    for attribute in node.attribute:
        if attribute.HasField("g"):
            for inner in attribute.g.node:
                _rename(inner, names)


def _read_by(node: NodeProto) -> set[str]:
    found = set(node.input)
    for attribute in node.attribute:
        if attribute.HasField("g"):
            for inner in attribute.g.node:
                found |= _read_by(inner)
    return found - {""}


def _named(value: ValueInfoProto, name: str) -> ValueInfoProto:
    copy = type(value)()
    copy.CopyFrom(value)
    copy.name = name
    return copy
