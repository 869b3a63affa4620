"""Edits of ONNX graphs that several rewrites share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy

if TYPE_CHECKING:
    import onnx_ir as ir


def only_user(node: ir.Node, kind: str) -> ir.Node | None:
    """Return what reads the node's one output, if that is one call of this kind and nothing else."""
    if len(node.outputs) != 1:
        return None
    (value,) = node.outputs
    users = value.consumers()
    return users[0] if len(users) == 1 and users[0].op_type == kind and not value.is_graph_output() else None


def numbers_of(value: ir.Value | None) -> list[int] | None:
    """Return a constant of whole numbers; None where it is none."""
    import onnx_ir

    found = None if value is None else onnx_ir.convenience.get_const_tensor(value)
    return None if found is None else [int(size) for size in found.numpy().reshape(-1)]


def append_call(
    made: list[ir.Node], kind: str, inputs: Sequence[ir.Value | None], near: ir.Value, *attributes: ir.Attr
) -> ir.Value:
    """Add a call to `made`, named after the value it is made for; returns its result."""
    import onnx_ir

    output = onnx_ir.Value(name=f"{near.name}.{kind.lower()}{len(made)}")
    made.append(onnx_ir.Node("", kind, inputs, attributes, outputs=[output], name=f"node_{output.name}"))
    return output


def shape_tensor(made: list[ir.Node], near: ir.Value, sizes: Sequence[int]) -> ir.Value:
    """Add a shape to `made`; -1 stands for what follows from the others."""
    import onnx_ir

    wanted = onnx_ir.tensor(numpy.array(sizes, dtype=numpy.int64))
    return append_call(made, "Constant", [], near, onnx_ir.AttrTensor("value", wanted))


def replace_calls(
    before: ir.Node, made: Sequence[ir.Node], old: Sequence[ir.Node], result: ir.Value, found: ir.Value
) -> None:
    """Put the calls that were made in the place of old ones, the last first; `found` stands for `result`."""
    import onnx_ir

    assert before.graph is not None
    found.shape, found.type = result.shape, result.type
    onnx_ir.convenience.replace_nodes_and_values(before.graph, old[0], old, made, [result], [found])


def drop_unread(nodes: Sequence[ir.Node | None]) -> None:
    """Remove calls whose results nothing reads any more: what counts readers would see them."""
    for node in nodes:
        if node is not None and node.graph is not None:
            (value,) = node.outputs
            if not value.consumers() and not value.is_graph_output():
                node.graph.remove(node, safe=True)
