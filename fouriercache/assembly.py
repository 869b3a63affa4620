"""From an exported program to ours: roles for its inputs, names for its weights, the questions set apart."""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch._higher_order_ops.wrap import wrap_with_autocast
from torch.export.graph_signature import InputKind
from torch.utils import _pytree as pytree

from fouriercache.calls import Call, find_samples
from fouriercache.errors import CaptureError
from fouriercache.program import Input, Output, Program, Role, sizes_of, tensor_of
from fouriercache.questions import Answer, Questions
from fouriercache.tracing import Traced, guards_of


@dataclass(frozen=True)
class Assembled:
    """What an exported program became; the fields are those of `Capture`."""

    program: Program
    shapes: tuple[tuple[int | str, ...], ...]
    out_spec: pytree.TreeSpec
    constants: Mapping[int, Any]
    guards: tuple[Any, ...]
    questions: Questions | None
    kept: tuple[str, ...] = ()


def assemble(traced: Traced, call: Call, samples: Sequence[int], timestep: int) -> Assembled:
    """Make a program of what torch.export traced for `call`.

    Args:
        samples: which of the call's tensors are denoised, as far as their names tell. timestep: which one is the
            timestep.

    Raises:
        CaptureError: the graph is not of the form that torch.export documents, or takes other tensors than the call.
    """
    exported = traced.exported
    graph, output, values = _read_weights(exported)
    if not call.autocast:
        _inline_without_autocast(graph, exported.graph_module)
    attributes: dict[str, Any] = {}
    sources: dict[str, str] = {}
    names = {*exported.state_dict, *exported.graph_signature.buffers}
    for position, node in enumerate(graph.find_nodes(op="get_attr")):
        path = str(node.target)
        value = values[path] if path in values else _attribute(exported.graph_module, path)
        node.target = f"subgraph_{position}" if isinstance(value, fx.GraphModule) else f"weight_{position}"
        attributes[node.target] = value
        node.meta["source"] = path
        if path in names and isinstance(value, Tensor):
            sources[node.target] = path
    for target in (torch.ops.aten._assert_tensor_metadata.default, torch.ops.aten._assert_scalar.default):
        for node in graph.find_nodes(op="call_function", target=target):
            node.meta.setdefault("val", None)  # export gives some of these no value
    leaves: list[Any] = list(output) if isinstance(output, list | tuple) else [output]
    asked = [leaves.pop() for _ in traced.told][::-1]
    _drop_constants(graph, call)
    constants = {i: leaf for i, leaf in enumerate(leaves) if not isinstance(leaf, fx.Node)}
    results = tuple(leaf for leaf in leaves if isinstance(leaf, fx.Node))
    inputs = _read_inputs(graph, call, results, samples, timestep)
    graph.output(results)
    questions = _set_apart(graph, attributes, inputs, asked, traced.told)
    program = Program(
        graph,
        attributes,
        sources,
        inputs,
        tuple(Output(f"result_{i}", "result") for i in range(len(results))),
    )
    program.verify()
    shapes = tuple(sizes_of(node.meta["val"]) for node in program.placeholders)
    return Assembled(program, shapes, traced.out_spec, constants, guards_of(exported), questions)


def _read_weights(exported: torch.export.ExportedProgram) -> tuple[fx.Graph, Any, dict[str, Any]]:
    """Copy the graph, with what torch.export passes in beside the call's own inputs read by its name.

    `exported.module()` gives the same graph, but compiles it three times on the way.

    Returns:
        The graph, still without an output; what it returns; weights and constants by name.
    """
    graph, mapping = fx.Graph(), dict[fx.Node, fx.Node]()
    output = graph.graph_copy(exported.graph, mapping)
    values: dict[str, Any] = {}
    read: dict[fx.Node, fx.Node] = {}
    passed = exported.graph.find_nodes(op="placeholder")
    for given, node in zip(exported.graph_signature.input_specs, map(mapping.__getitem__, passed), strict=True):
        if given.target is None:  # an input of the call
            continue
        value = exported.state_dict.get(given.target, exported.constants.get(given.target))
        if given.kind is InputKind.CONSTANT_TENSOR and value.requires_grad:
            value = value.detach()
        values[given.target] = value
        with graph.inserting_after(node):
            read[node] = graph.get_attr(given.target)
        read[node].meta = node.meta
        node.replace_all_uses_with(read[node])
        graph.erase_node(node)
    return graph, fx.map_arg(output, lambda node: read.get(node, node)), values


def _inline_without_autocast(graph: fx.Graph, module: nn.Module) -> None:
    """Put what runs under `torch.autocast(enabled=False)` into the graph itself, where autocast is off anyway."""
    for node in graph.find_nodes(op="call_function", target=wrap_with_autocast):
        _, _, is_enabled, _, wrapped, *inputs = node.args
        body = _attribute(module, str(wrapped.target)) if isinstance(wrapped, fx.Node) else None
        if is_enabled or not isinstance(body, fx.GraphModule) or body.graph.find_nodes(op="get_attr"):
            continue
        mapping: dict[fx.Node, fx.Node] = dict(zip(body.graph.find_nodes(op="placeholder"), inputs, strict=True))
        with graph.inserting_before(node):
            results = graph.graph_copy(body.graph, mapping)
        for user in list(node.users):
            if user.target is operator.getitem and isinstance(results, list | tuple):
                user.replace_all_uses_with(results[user.args[1]])
                graph.erase_node(user)
        if isinstance(results, fx.Node):
            node.replace_all_uses_with(results)
        graph.erase_node(node)
        if not wrapped.users:
            graph.erase_node(wrapped)


def _set_apart(
    graph: fx.Graph,
    attributes: Mapping[str, Any],
    inputs: Sequence[Input],
    asked: Sequence[Any],
    told: Sequence[Answer],
) -> Questions | None:
    """Move what only questions are computed with into a module of its own; None when no question minds the inputs."""
    placeholders = list(graph.find_nodes(op="placeholder"))
    cones = {node: _cone(node) for node in asked if isinstance(node, fx.Node)}
    pairs = [(n, a) for n, a in zip(asked, told, strict=True) if n in cones and not cones[n].isdisjoint(placeholders)]
    steps = {n for n, given in zip(placeholders, inputs, strict=True) if given.role in ("sample", "timestep")}
    questions = None
    if pairs:
        needed = set().union(*(cones[node] for node, _ in pairs))
        alone = fx.Graph()
        mapping: dict[fx.Node, fx.Node] = {}
        for node in graph.nodes:
            if node in needed or node.op == "placeholder":
                mapping[node] = alone.node_copy(node, mapping.__getitem__)
        alone.output(tuple(mapping[node] for node, _ in pairs))
        used = {str(node.target) for node in alone.find_nodes(op="get_attr")}
        root = {name: value for name, value in attributes.items() if name in used}
        questions = Questions(
            fx.GraphModule(root, alone, class_name="Questions"),
            tuple(index for index, node in enumerate(placeholders) if node in needed),
            tuple(answer for _, answer in pairs),
            tuple(not cones[node].isdisjoint(steps) for node, _ in pairs),
        )
    for node in reversed(list(graph.nodes)):
        if node.op not in ("placeholder", "output") and not node.users and any(node in cone for cone in cones.values()):
            graph.erase_node(node)
    return questions


def _cone(node: fx.Node) -> set[fx.Node]:
    """The node and all it is computed from."""
    seen, todo = {node}, [node]
    while todo:
        new = set(todo.pop().all_input_nodes) - seen
        seen |= new
        todo += new
    return seen


def _drop_constants(graph: fx.Graph, call: Call) -> None:
    """Erase the placeholders of constants."""
    for node in list(graph.find_nodes(op="placeholder")):
        if not isinstance(node.meta.get("val"), Tensor):
            if node.users:
                raise CaptureError(f"input {node.name} is not a tensor, yet the graph computes with it")
            graph.erase_node(node)
    count = len(graph.find_nodes(op="placeholder"))
    if count != len(call.tensors):
        raise CaptureError(f"the graph has {count} tensor inputs, the call {len(call.tensors)}")


def _read_inputs(
    graph: fx.Graph, call: Call, results: Sequence[fx.Node], samples: Sequence[int], timestep: int
) -> tuple[Input, ...]:
    """Give every placeholder its role."""
    placeholders = graph.find_nodes(op="placeholder")
    denoised = find_samples(call, samples, [tensor_of(node) for node in results])

    def role(index: int) -> Role:
        return "sample" if index in denoised else "timestep" if index == timestep else "conditioning"

    return tuple(Input(node.name, role(index)) for index, node in enumerate(placeholders))


def _attribute(module: nn.Module, path: str) -> Any:
    value: Any = module
    for part in path.split("."):
        value = getattr(value, part)
    return value
