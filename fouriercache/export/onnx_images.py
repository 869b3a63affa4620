"""Images cut into patches and put together again, in ONNX's own calls for it.

ONNX Runtime's Transpose takes an entry at a time where six axes change places; its SpaceToDepth and DepthToSpace take
rows. On the CPU the two have no float16, so images of float32 alone are written so.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from fouriercache.export.onnx_edits import append_call, numbers_of, only_user, replace_calls, shape_tensor

if TYPE_CHECKING:
    import onnx_ir as ir

_CUT = [0, 2, 4, 1, 3, 5]
"""[n, channels, height, size, width, size] to [n, height, width, channels, size, size]."""

_PUT: dict[tuple[int, ...], str] = {(0, 5, 1, 3, 2, 4): "DCR", (0, 3, 1, 4, 2, 5): "CRD"}
"""What puts [n, height, width, size, size, channels], or channels before sizes, together; and what ONNX calls it."""


def cut_images(model: ir.Model) -> int:
    """Cut an image whose patches are multiplied by a convolution's weight with SpaceToDepth.

    That has the channels of a patch last, so the weight is read in that order. Returns how many are cut so.
    """
    import onnx_ir

    count = 0
    for turn in list(onnx_ir.traversal.RecursiveGraphIterator(model.graph)):
        flat = only_user(turn, "Reshape") if turn.op_type == "Transpose" and _perm(turn) == _CUT else None
        product = None if flat is None else only_user(flat, "MatMul")
        if flat is None or product is None or product.inputs[0] is not flat.outputs[0]:
            continue
        weight, (image, sizes) = _kernel_of(product.inputs[1]), _image_of(turn)
        if image is None or weight is None:
            continue
        channels, height, size, width, other = sizes
        if size != other or list(weight.shape or ())[1:] != [channels, size, size]:
            continue
        if (numbers_of(flat.inputs[1]) or [])[1:] != [height * width, channels * size * size]:
            continue
        result, made = product.outputs[0], list[onnx_ir.Node]()
        deep = append_call(made, "SpaceToDepth", [image], result, onnx_ir.AttrInt64("blocksize", size))
        columns = append_call(
            made, "Reshape", [deep, shape_tensor(made, result, [-1, channels * size * size, height * width])], result
        )
        rows = append_call(made, "Transpose", [columns], result, onnx_ir.AttrInt64s("perm", [0, 2, 1]))
        moved = append_call(made, "Transpose", [weight], result, onnx_ir.AttrInt64s("perm", [2, 3, 1, 0]))
        matrix = append_call(made, "Reshape", [moved, shape_tensor(made, result, [channels * size * size, -1])], result)
        replace_calls(turn, made, [product, flat, turn], result, append_call(made, "MatMul", [rows, matrix], result))
        count += 1
    return count


def _kernel_of(matrix: ir.Value | None) -> ir.Value | None:
    """The weight [width, channels, size, size] that `matrix` is, with one row for each entry of a patch."""
    turn = None if matrix is None else matrix.producer()
    flat = None if turn is None or turn.op_type != "Transpose" or _perm(turn) != [1, 0] else turn.inputs[0]
    reshape = None if flat is None else flat.producer()
    if reshape is None or reshape.op_type != "Reshape":
        return None
    weight = reshape.inputs[0]
    return weight if weight is not None and weight.is_initializer() and len(weight.shape or ()) == 4 else None


def _image_of(turn: ir.Node) -> tuple[ir.Value | None, list[int]]:
    """The image that was cut for `turn`, None if it is none of float32, and the sizes it was cut to but the batch."""
    cut = turn.inputs[0].producer() if turn.inputs[0] is not None else None
    sizes = (numbers_of(cut.inputs[1]) or [])[1:] if cut is not None and cut.op_type == "Reshape" else []
    if cut is None or len(sizes) != 5:
        return None, []
    image, whole = cut.inputs[0], [sizes[0], sizes[1] * sizes[2], sizes[3] * sizes[4]]
    return (image if _is_float(image) and _sizes(image) == whole else None), sizes


def put_images_together(model: ir.Model) -> int:
    """Put patches, the entries of each in a row, together with DepthToSpace. Returns how many images are made so."""
    import onnx_ir

    count = 0
    for turn in list(onnx_ir.traversal.RecursiveGraphIterator(model.graph)):
        way = _PUT.get(tuple(_perm(turn) or ())) if turn.op_type == "Transpose" else None
        behind = None if way is None else only_user(turn, "Reshape")
        apart = turn.inputs[0].producer() if behind is not None and turn.inputs[0] is not None else None
        if behind is None or apart is None or apart.op_type != "Reshape" or way is None:
            continue
        patches, sizes = apart.inputs[0], _sizes(turn.inputs[0])
        if patches is None or sizes is None or not _is_float(patches):
            continue
        height, width, size, other, channels = sizes if way == "DCR" else (*sizes[:2], *sizes[3:], sizes[2])
        image = [channels, height * size, width * size]
        if size != other or _sizes(patches) != [height * width, channels * size * size]:
            continue
        if _sizes(behind.outputs[0]) != image or (numbers_of(behind.inputs[1]) or [])[1:] != image:
            continue
        result, made = behind.outputs[0], list[onnx_ir.Node]()
        columns = append_call(made, "Transpose", [patches], result, onnx_ir.AttrInt64s("perm", [0, 2, 1]))
        shape = shape_tensor(made, result, [-1, channels * size * size, height, width])
        deep = append_call(made, "Reshape", [columns, shape], result)
        how: Sequence[ir.Attr] = (onnx_ir.AttrInt64("blocksize", size), onnx_ir.AttrString("mode", way))
        replace_calls(turn, made, [behind, turn], result, append_call(made, "DepthToSpace", [deep], result, *how))
        count += 1
    return count


def _perm(node: ir.Node) -> list[int] | None:
    return list(node.attributes["perm"].as_ints()) if "perm" in node.attributes else None


def _sizes(value: ir.Value | None) -> list[int] | None:
    """All sizes but the first; None unless they are numbers."""
    if value is None or value.shape is None:
        return None
    sizes = [size for size in value.shape[1:] if isinstance(size, int)]
    return sizes if len(sizes) == len(value.shape) - 1 else None


def _is_float(value: ir.Value | None) -> bool:
    import onnx_ir

    return value is not None and value.dtype == onnx_ir.DataType.FLOAT
