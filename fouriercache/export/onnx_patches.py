"""The convolution that cuts an image into patches, as a product of matrices."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy

if TYPE_CHECKING:
    import onnx_ir as ir


def multiply_patches(model: ir.Model) -> int:
    """Write a convolution whose windows lie side by side, the pixels of its output in rows behind it, as a MatMul.

    So patch embeddings begin: `Conv`, `Reshape` to [n, width, patches], `Transpose` to [n, patches, width]. In rows
    from the start, what is moved is the image and not its much wider embedding. Returns how many were written so.
    """
    import onnx_ir

    count = 0
    for node in list(onnx_ir.traversal.RecursiveGraphIterator(model.graph)):
        found = _rows_of(node) if node.op_type == "Conv" else None
        if found is not None:
            _replace(node, *found)
            count += 1
    return count


def _rows_of(conv: ir.Node) -> tuple[ir.Node, ir.Node, list[int], list[int]] | None:
    """The two nodes behind a convolution that make rows of it, the patches along each axis, and a patch's sizes."""
    image, weight = conv.inputs[:2]
    sizes, window = _fixed(image, from_axis=1), _fixed(weight, from_axis=0)
    if sizes is None or window is None:
        return None
    kernel, patches = window[2:], [size // step for size, step in zip(sizes[1:], window[2:], strict=True)]
    strides = conv.attributes["strides"].as_ints() if "strides" in conv.attributes else [1] * len(kernel)
    is_apart = list(strides) == kernel and [p * k for p, k in zip(patches, kernel, strict=True)] == sizes[1:]
    reshape = _only_user(conv, "Reshape")
    rows = None if reshape is None else _only_user(reshape, "Transpose")
    if reshape is None or rows is None or not is_apart or window[1] != sizes[0] or not _is_plain(conv):
        return None
    flat = _fixed(reshape.outputs[0], from_axis=1)
    perm = list(rows.attributes["perm"].as_ints()) if "perm" in rows.attributes else None
    if flat != [window[0], math.prod(patches)] or perm != [0, 2, 1]:
        return None
    return reshape, rows, patches, kernel


def _is_plain(conv: ir.Node) -> bool:
    """Whether nothing is padded, dilated or grouped."""
    found = conv.attributes
    return (
        not any(found["pads"].as_ints() if "pads" in found else ())
        and all(step == 1 for step in (found["dilations"].as_ints() if "dilations" in found else ()))
        and ("group" not in found or found["group"].as_int() == 1)
        and ("auto_pad" not in found or found["auto_pad"].as_string() in ("NOTSET", "VALID"))
    )


def _only_user(node: ir.Node, kind: str) -> ir.Node | None:
    (value,) = node.outputs
    users = value.consumers()
    return users[0] if len(users) == 1 and users[0].op_type == kind and not value.is_graph_output() else None


def _fixed(value: ir.Value | None, *, from_axis: int) -> list[int] | None:
    """The sizes of a value from an axis on; None unless all of them are numbers."""
    if value is None or value.shape is None:
        return None
    sizes = [size for size in value.shape[from_axis:] if isinstance(size, int)]
    return sizes if len(sizes) == len(value.shape) - from_axis else None


def _replace(conv: ir.Node, reshape: ir.Node, rows: ir.Node, patches: Sequence[int], kernel: Sequence[int]) -> None:
    import onnx_ir

    graph, (image, weight, *bias), result = conv.graph, conv.inputs, rows.outputs[0]
    assert graph is not None
    assert image is not None
    assert weight is not None
    sizes = _fixed(weight, from_axis=0)
    assert sizes is not None
    (width, channels), axes = sizes[:2], len(patches)
    length, count = channels * math.prod(kernel), math.prod(patches)
    made: list[ir.Node] = []

    def add(kind: str, inputs: Sequence[ir.Value], *attributes: ir.Attr) -> ir.Value:
        name = f"{result.name}.{len(made)}"
        output = onnx_ir.Value(name=name)
        made.append(onnx_ir.Node("", kind, inputs, attributes, outputs=[output], name=f"node_{name}"))
        return output

    def shaped(value: ir.Value, shape: Sequence[int]) -> ir.Value:
        wanted = onnx_ir.tensor(numpy.array(shape, dtype=numpy.int64))
        return add("Reshape", [value, add("Constant", [], onnx_ir.AttrTensor("value", wanted))])

    def moved(value: ir.Value, axes: Sequence[int]) -> ir.Value:
        return add("Transpose", [value], onnx_ir.AttrInt64s("perm", axes))

    apart = shaped(image, [0, channels, *(size for pair in zip(patches, kernel, strict=True) for size in pair)])
    inner = [3 + 2 * axis for axis in range(axes)]
    lines = shaped(moved(apart, [0, *(axis - 1 for axis in inner), 1, *inner]), [0, count, length])
    columns = moved(shaped(weight, [width, length]), [1, 0])
    found = add("MatMul", [lines, columns])
    if bias and bias[0] is not None:
        found = add("Add", [found, bias[0]])
    onnx_ir.convenience.replace_nodes_and_values(graph, rows, [rows, reshape, conv], made, [result], [found])
