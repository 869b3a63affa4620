"""What single calls of ATen become when they run: some are several launches, and which ones the strides decide."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, fx

from fouriercache.cost.sizes import Size
from fouriercache.program import tensor_of

aten = torch.ops.aten

_SCATTERS = {aten.slice_scatter.default, aten.select_scatter.default}
_PARTS = {aten.slice.Tensor, aten.select.int}
_WRITES = {aten.copy.default, aten.fill.Scalar, aten.fill.Tensor}
"""What writing a value into a part is made of, where nothing is written into."""


class _Extra(NamedTuple):
    """Launches beside the one of the call itself, and the bytes that these read and write."""

    launches: int = 0
    read: int = 0
    written: int = 0

    def plus(self, other: _Extra) -> _Extra:
        """Both together."""
        return _Extra(*(mine + its for mine, its in zip(self, other, strict=True)))


_NOTHING = _Extra()


def extra_of(node: fx.Node, size: Size, *, fused_norms: bool) -> _Extra:
    """What a call does beside its own launch.

    Args:
        size: what dynamic sizes are.
        fused_norms: whether RMS norm is one kernel, as PyTorch has on CUDA.
    """
    rule = _RULES.get(node.target)
    found = _NOTHING if rule is None else rule(node, size)
    return _NOTHING if fused_norms and node.target is aten.rms_norm.default else found


def function_of(node: fx.Node) -> str:
    """ATen's name of what a call computes, the same in place; "gelu_tanh" for the approximation of gelu."""
    target = node.target
    if not isinstance(target, torch._ops.OpOverload):
        return ""
    name = str(target.overloadpacket.__name__).rstrip("_")
    return "gelu_tanh" if name == "gelu" and node.kwargs.get("approximate") == "tanh" else name


def is_of_capture(node: fx.Node) -> bool:
    """Whether a call stands in a capture for what the model itself does with no launch of its own.

    Dropout that is off returns its input, which a capture copies. A model writes into a part of a tensor; a capture,
    where nothing is written into, computes the part and then makes the whole anew.
    """
    if node.target is aten.clone.default:
        modules = list((node.meta.get("nn_module_stack") or {}).values())
        return bool(modules) and str(modules[-1][1]).endswith("Dropout")
    if node.target not in _SCATTERS:
        return False
    whole, part = node.args[:2]
    return isinstance(part, fx.Node) and (part.target in _SCATTERS | _WRITES or _viewed(part) is whole)


def part_written(node: fx.Node, size: Size) -> int | None:
    """Bytes of the part that the model copies a value into, where a capture makes the whole anew; else None."""
    part = tensor_of(node.args[1]) if node.target in _SCATTERS else None
    return None if part is None else _whole(part, size)


def _viewed(node: fx.Node) -> object:
    """What a call's first operand is a view of."""
    source = node.args[0] if node.args else None
    while isinstance(source, fx.Node) and source.target in _PARTS:
        source = source.args[0]
    return source


def is_viewable(source: Tensor, shape: Sequence[Any], size: Size) -> bool:
    """Whether the source's memory can be seen in another shape, which torch itself is asked."""
    try:
        _alike(source, size).view([size(n) for n in shape])
    except RuntimeError:
        return False
    return True


def is_contiguous(source: Tensor, size: Size) -> bool:
    """Whether a value lies in memory in the order of its axes."""
    return _alike(source, size).is_contiguous()


def in_memory(argument: Any, size: Size) -> Tensor | None:
    """Return the value as it lies in memory when the graph runs; None for what is no tensor.

    Fused attention lays its result out as its query lies, on every device; tracing on the meta device does not.
    """
    traced = tensor_of(argument)
    if traced is None or argument.target not in (aten.transpose.int, aten.permute.default):
        return traced
    attention = argument.args[0]
    query, result = tensor_of(attention.args[0]) if attention.args else None, tensor_of(attention)
    if attention.target is not aten.scaled_dot_product_attention.default or query is None or result is None:
        return traced
    order = sorted(range(query.ndim), key=lambda axis: size(query.stride(axis)), reverse=True)
    laid = torch.empty([size(result.shape[axis]) for axis in order], dtype=result.dtype, device="meta")
    moved: Tensor = argument.target(laid.permute([order.index(axis) for axis in range(query.ndim)]), *argument.args[1:])
    return moved


def _alike(source: Tensor, size: Size) -> Tensor:
    """A tensor without memory, of the same sizes and strides."""
    return torch.empty_strided([size(n) for n in source.shape], [size(n) for n in source.stride()], device="meta")


def bytes_of(tensor: Tensor, size: Size) -> int:
    """Bytes of a tensor; a dimension that is expanded counts once."""
    stored = [n for n, stride in zip(tensor.shape, tensor.stride(), strict=True) if not _is_zero(stride)]
    return math.prod(size(n) for n in stored) * tensor.element_size()


def _is_zero(stride: Any) -> bool:
    return isinstance(stride, int) and stride == 0


def _whole(tensor: Tensor, size: Size) -> int:
    return math.prod(size(n) for n in tensor.shape) * tensor.element_size()


def _copy(tensor: Tensor, size: Size) -> _Extra:
    return _Extra(1, bytes_of(tensor, size), _whole(tensor, size))


def _of_linear(node: fx.Node, size: Size) -> _Extra:
    """One product where the rows lie behind each other; else a copy of them, and the bias is added by itself."""
    source, out = tensor_of(node.args[0]), tensor_of(node)
    if source is None or out is None or source.ndim == 2 or is_contiguous(source, size):
        return _NOTHING
    copied = _of_rows(source, node.args[1], size)
    has_bias = len(node.args) > 2 and node.args[2] is not None
    written = _whole(out, size)
    return copied.plus(_Extra(1, written, written)) if has_bias else copied


def _of_rows(source: Tensor, matrix: Any, size: Size) -> _Extra:
    """A copy of rows that do not lie behind each other, for a matrix that asks for gradients: one product saves memory
    in the backward pass. For another, each sample is multiplied by itself where it lies.
    """
    right = tensor_of(matrix)
    is_copied = right is not None and right.requires_grad and not is_viewable(source, [-1, source.shape[-1]], size)
    return _copy(source, size) if is_copied else _NOTHING


def _of_matmul(node: fx.Node, size: Size) -> _Extra:
    """A copy of each operand that has no strides as a batch of matrices."""
    found = _NOTHING
    left, right, out = tensor_of(node.args[0]), tensor_of(node.args[1]), tensor_of(node)
    if left is None or right is None or out is None:
        return found
    if left.ndim > 2 and right.ndim <= 2:
        return _of_rows(left, node.args[1], size)
    for operand in (left, right) if out.ndim > 2 else ():
        batch, shape = [size(n) for n in out.shape[:-2]], [size(n) for n in operand.shape]
        wide = _alike(operand, size).expand(*batch, *shape[-2:])
        if not is_viewable(wide, [math.prod(batch), *shape[-2:]], size):
            found = found.plus(_Extra(1, bytes_of(operand, size), math.prod(map(size, out.shape[:-2])) *
                                     math.prod(map(size, operand.shape[-2:])) * operand.element_size()))  # fmt: skip
    return found


def _of_attention(node: fx.Node, size: Size) -> _Extra:
    """A mask of yes and no is first made one of 0 and minus infinity: two numbers, and a choice between them."""
    mask = tensor_of(node.args[3]) if len(node.args) > 3 else tensor_of(node.kwargs.get("attn_mask"))
    query = tensor_of(node.args[0])
    if mask is None or query is None or mask.dtype != torch.bool:
        return _NOTHING
    width = query.element_size()
    wide = _whole(mask, size) * width
    return _Extra(3, wide + 2 * width, wide + 2 * width)  # the mask of yes and no counts with the call itself


def _of_rms_norm(node: fx.Node, size: Size) -> _Extra:
    """Square, mean, add, root, product, and the product with the weight; the first of them is the call's own."""
    value = tensor_of(node)
    if value is None:
        return _NOTHING
    rows = math.prod(size(n) for n in value.shape[:-1]) * value.element_size()
    whole, weight = _whole(value, size), tensor_of(node.args[2]) if len(node.args) > 2 else None
    scaled = _NOTHING if weight is None else _Extra(1, whole, whole)  # the weight counts with the call itself
    return _Extra(4, 2 * whole + 3 * rows, whole + 3 * rows).plus(scaled)


_RULES: dict[object, Callable[[fx.Node, Size], _Extra]] = {
    aten.linear.default: _of_linear,
    aten.matmul.default: _of_matmul,
    aten.scaled_dot_product_attention.default: _of_attention,
    aten.rms_norm.default: _of_rms_norm,
}
