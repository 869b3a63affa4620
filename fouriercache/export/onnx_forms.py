"""What torch writes in one way and an engine runs faster in another: sums behind products, moves, single numbers.

A cached step is small, so one call more or less shows in it.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from fouriercache.export.onnx_edits import append_call, drop_unread, numbers_of, only_user, replace_calls, shape_tensor

if TYPE_CHECKING:
    import onnx_ir as ir

_ELEMENTWISE = ("Add", "Mul", "Sub", "Div")


def add_in_rows(model: ir.Model) -> int:
    """Write a Gemm that adds a matrix, all of it flattened for that, as a MatMul and an Add of what was flattened.

    ONNX Runtime first copies what is added to the result's place, and multiplies into it: with few columns to sum over
    that takes longer than a product and a sum, each in all threads. Returns how many were written so.
    """
    import onnx_ir

    count = 0
    for gemm in list(onnx_ir.traversal.RecursiveGraphIterator(model.graph)):
        behind = only_user(gemm, "Reshape") if gemm.op_type == "Gemm" and len(gemm.inputs) == 3 else None
        if behind is None or not _is_plain_gemm(gemm):
            continue
        rows, weight, added = gemm.inputs
        left, right, result = _flattened(rows), _flattened(added), behind.outputs[0]
        if weight is None or left is None or right is None or not _is_alike(left, right, result):
            continue
        turn = "transB" in gemm.attributes and gemm.attributes["transB"].as_int() == 1
        made: list[ir.Node] = []
        if turn:
            weight = append_call(made, "Transpose", [weight], result, onnx_ir.AttrInt64s("perm", [1, 0]))
        product = append_call(made, "MatMul", [left, weight], result)
        total = append_call(made, "Add", [product, right], result)
        flat = [value.producer() for value in (rows, added) if value is not None]
        replace_calls(gemm, made, [behind, gemm], result, total)
        drop_unread(flat)
        count += 1
    return count


def _is_plain_gemm(gemm: ir.Node) -> bool:
    found = gemm.attributes
    return all(found[name].as_float() == 1.0 for name in ("alpha", "beta") if name in found) and not (
        "transA" in found and found["transA"].as_int()
    )


def _flattened(value: ir.Value | None) -> ir.Value | None:
    """The tensor of three dimensions of which `value` is the rows, [n, m, width] as [n * m, width]."""
    node = None if value is None else value.producer()
    if value is None or node is None or node.op_type != "Reshape":
        return None
    source, wanted = node.inputs[0], numbers_of(node.inputs[1])
    if source is None or source.shape is None or len(source.shape) != 3 or wanted is None:
        return None
    return source if wanted == [-1, source.shape[2]] else None


def _is_alike(left: ir.Value, right: ir.Value, result: ir.Value) -> bool:
    """Whether the three have the same two leading sizes, known ones but for the first."""
    shapes = [value.shape for value in (left, right, result)]
    if any(shape is None or len(shape) != 3 or not isinstance(shape[1], int) for shape in shapes):
        return False
    known: Any = shapes
    return all(shape[0] == known[0][0] and shape[1] == known[0][1] for shape in known) and known[1][2] == known[2][2]


def move_once(model: ir.Model) -> int:
    """Write a Transpose behind a Transpose, with a Reshape between that joins axes, as one Transpose and a Reshape.

    Returns how many were written so.
    """
    import onnx_ir

    count = 0
    for first in list(onnx_ir.traversal.RecursiveGraphIterator(model.graph)):
        joins = only_user(first, "Reshape") if first.op_type == "Transpose" else None
        second = None if joins is None else only_user(joins, "Transpose")
        if joins is None or second is None or "perm" not in first.attributes or "perm" not in second.attributes:
            continue
        groups = _joined(first.outputs[0], joins.outputs[0])
        if groups is None or len(groups) != len(second.attributes["perm"].as_ints()):
            continue
        axes, order, result = first.attributes["perm"].as_ints(), second.attributes["perm"].as_ints(), second.outputs[0]
        sizes = [joins.outputs[0].shape[axis] for axis in order]  # type: ignore[index]  # it has one: see _joined
        moved = [axes[axis] for group in order for axis in groups[group]]
        made: list[ir.Node] = []
        value = append_call(made, "Transpose", first.inputs, result, onnx_ir.AttrInt64s("perm", moved))
        shape = shape_tensor(made, result, [size if isinstance(size, int) else -1 for size in sizes])
        replace_calls(first, made, [second, joins, first], result, append_call(made, "Reshape", [value, shape], result))
        count += 1
    return count


def _joined(before: ir.Value, after: ir.Value) -> list[list[int]] | None:
    """Which neighbouring axes of `before` each axis of `after` is made of; None where that cannot be told.

    At most the first size is unknown, and stays by itself.
    """
    if before.shape is None or after.shape is None or not len(before.shape) or before.shape[0] != after.shape[0]:
        return None
    given = [size for size in before.shape[1:] if isinstance(size, int)]
    wanted = [size for size in after.shape[1:] if isinstance(size, int)]
    if len(given) != len(before.shape) - 1 or len(wanted) != len(after.shape) - 1 or 0 in given or 1 in wanted:
        return None
    groups, axis = [[0]], 0
    for size in wanted:
        group: list[int] = []
        while axis < len(given) and math.prod(given[i - 1] for i in group) < size:
            axis += 1
            group.append(axis)
        if math.prod(given[i - 1] for i in group) != size:
            return None
        groups.append(group)
    groups[-1].extend(range(axis + 1, len(before.shape)))  # ones at the end
    return groups


def read_numbers(model: ir.Model) -> int:
    """Read one number of a list as a list of one where it goes into sums and products alone, which take it alike.

    ONNX Runtime reads several numbers of a list in one call, and makes numbers of lists of one in one call each.
    Returns how many are read so.
    """
    import onnx_ir

    count = 0
    for gather in onnx_ir.traversal.RecursiveGraphIterator(model.graph):
        if gather.op_type != "Gather" or gather.outputs[0].is_graph_output():
            continue
        source, index = gather.inputs[:2]
        given = None if index is None else onnx_ir.convenience.get_const_tensor(index)
        is_list = source is not None and source.shape is not None and len(source.shape) == 1
        if given is None or tuple(given.shape) != () or not is_list or not _is_spread(gather.outputs[0]):
            continue
        made: list[ir.Node] = []
        tensor = onnx_ir.tensor(given.numpy().reshape(1))
        gather.replace_input_with(
            1, append_call(made, "Constant", [], gather.outputs[0], onnx_ir.AttrTensor("value", tensor))
        )
        assert gather.graph is not None
        gather.graph.insert_before(gather, made)
        gather.outputs[0].shape = onnx_ir.Shape([1])
        count += 1
    return count


def _is_spread(value: ir.Value) -> bool:
    """Whether a number is only added to, or multiplied by, tensors that have dimensions of their own."""
    users = value.consumers()
    others = [other for user in users for other in user.inputs if other is not value]
    return (
        bool(users)
        and all(user.op_type in _ELEMENTWISE and user.graph is value.graph for user in users)
        and len(others) == len(users)
        and all(other is not None and other.shape is not None and len(other.shape) > 0 for other in others)
    )
