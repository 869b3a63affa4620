"""What a program costs, counted on the graph: arithmetic, launches, bytes of weights, kept features and activations."""

from __future__ import annotations

import math
import operator
from collections.abc import Collection, Container, Iterable, Iterator, Sequence
from dataclasses import astuple, dataclass, replace
from typing import Any, Literal, TypeAlias, cast

import torch
from torch import Tensor, fx
from torch._higher_order_ops.flex_attention import flex_attention

from fouriercache.cost.composites import bytes_of, extra_of, function_of, in_memory, is_contiguous, is_viewable
from fouriercache.cost.sizes import Size, hinted
from fouriercache.program import Program, tensor_of, value_of

aten = torch.ops.aten
_Kind: TypeAlias = Literal["product", "attention", "convolution", "other"]
_KEPT = ("slot", "state")
_CONVOLUTIONS = {aten.conv1d.default, aten.conv2d.default, aten.conv3d.default, aten.convolution.default}
_TRANSPOSED = {aten.conv_transpose1d.default, aten.conv_transpose2d.input, aten.conv_transpose3d.input}
_ATTENTION = {aten.scaled_dot_product_attention.default, flex_attention}
GATHERS = {
    aten.embedding.default,
    aten.gather.default,
    aten.index.Tensor,
    aten.index_select.default,
    aten.take_along_dim.default,
}
"""Calls that read of their first tensor what they return, not all of it."""
_VIEWS = {
    aten._unsafe_view.default,
    aten.meshgrid.indexing,
    aten.view.dtype,
    aten.view_as_complex.default,
    aten.view_as_real.default,
}
"""Calls that move nothing, though their schema does not say so, or their result has another dtype."""
_MAYBE_COPIES = {aten.contiguous.default, aten.flatten.using_ints, aten.reshape.default}


@dataclass(frozen=True)
class ModeCost:
    """Cost of one step, at the batch size of the capture.

    Attributes:
        flops: two for each multiply-add of matrix products, convolutions and attention.
        launches: calls that compute; views are free. What a call is made of on a device, `Work` says.
        parameters_read: bytes of weights that the step reads.
        kept_read, kept_written: bytes of kept features and of states that it reads and returns.
        activations: bytes that launches write, results among them.
    """

    flops: int
    launches: int
    parameters_read: int
    kept_read: int = 0
    kept_written: int = 0
    activations: int = 0

    def __add__(self, other: ModeCost) -> ModeCost:
        return ModeCost(*(mine + its for mine, its in zip(astuple(self), astuple(other), strict=True)))


@dataclass(frozen=True)
class CallCost:
    """Cost of one call that computes.

    Attributes:
        flops: two for each multiply-add of a matrix product, a convolution or attention; 0 for all else.
        launches: one, and those of copies that it makes, or of the parts that it is made of.
        read: bytes of its tensors, each once. What is expanded counts for what is stored of it; of the table that a
            gather or an embedding reads, only what is returned counts.
        written: bytes of its results.
        kind: of arithmetic. dtype: that it computes in.
        function: ATen's name of it. elements: of its first result.
    """

    flops: int
    launches: int
    read: int
    written: int
    kind: _Kind
    dtype: torch.dtype
    function: str = ""
    elements: int = 0


def cost_of(*programs: Program) -> ModeCost:
    """Count the cost of running the programs once each."""
    total = ModeCost(0, 0, 0)
    for program in programs:
        calls = list(program.calls())
        kept = [node for node, output in zip(program.results, program.outputs, strict=True) if output.role in _KEPT]
        total += replace(
            cost_of_calls(calls),
            parameters_read=_weight_bytes(program, calls),
            kept_read=sum(bytes_of_node(node) for node in program.inputs_of("slot", "state")),
            kept_written=sum(bytes_of_node(node) for node in kept),
        )
    return total


def cost_of_calls(calls: Iterable[fx.Node]) -> ModeCost:
    """Count FLOPs, launches and activations of some calls of a program: the same on every device."""
    launches = [node for node in calls if _computes(node)]
    activations = sum(bytes_of_node(node) for node in launches)
    return ModeCost(sum(_flops(node, hinted) for node in launches), len(launches), 0, activations=activations)


def cost_of_call(node: fx.Node, size: Size = hinted, *, fused_norms: bool = True) -> CallCost | None:
    """Count the cost of one call; None when it computes nothing: a view, a size, a function of Python's.

    Args:
        size: what dynamic sizes are.
        fused_norms: whether RMS norm is one kernel, as PyTorch has on CUDA, or several.
    """
    if not is_launch(node, size):
        return None
    extra = extra_of(node, size, fused_norms=fused_norms)
    result = bytes_of_node(node, size) + _statistics_bytes(node, size)
    sources = node.all_input_nodes[:1] if node.target is aten.type_as.default else node.all_input_nodes
    read = sum(bytes_of_node(source, size) for source in sources)
    if node.target in GATHERS and isinstance(node.args[0], fx.Node):
        read += result - bytes_of_node(node.args[0], size)
    flops = _flops(node, size)
    dtypes = [tensor.dtype for source in node.args if (tensor := tensor_of(source)) is not None]
    results = [leaf for leaf in _leaves(value_of(node)) if isinstance(leaf, Tensor)]
    dtypes += [leaf.dtype for leaf in results]
    return CallCost(
        flops,
        1 + extra.launches,
        read + extra.read,
        result + extra.written,
        _kind(node) if flops else "other",
        dtypes[0],
        function_of(node),
        math.prod(size(n) for n in results[0].shape) if results else 0,
    )


def _kind(node: fx.Node) -> _Kind:
    if node.target in _ATTENTION:
        return "attention"
    return "convolution" if node.target in _CONVOLUTIONS | _TRANSPOSED else "product"


def bytes_kept(canonical: Program, columns: Container[str], size: Size = hinted) -> int:
    """Bytes of features that one pass of a trajectory keeps once its history is full.

    Args:
        columns: those that are kept; a column that no cached step reads is not.
        size: what dynamic sizes are.
    """
    slots = canonical.slots
    return sum(bytes_of_node(n, size) for n in canonical.inputs_of("slot") if slots[n.name].column in columns)


def block_flops(blocks: Collection[str], *programs: Program) -> int:
    """Count the arithmetic of the programs that belongs to the blocks at these paths."""
    calls = (node for program in programs for node in program.calls() if node.meta.get("block") in blocks)
    return sum(_flops(node, hinted) for node in calls)


def weights_of(program: Program) -> Iterator[tuple[str, Tensor]]:
    """Yield the weights and constants that a program reads, by the names of its attributes."""
    for name in dict.fromkeys(str(node.target) for node in program.graph.find_nodes(op="get_attr")):
        if isinstance(program.attributes[name], Tensor):
            yield name, program.attributes[name]


def is_launch(node: fx.Node, size: Size = hinted) -> bool:
    """Whether a call computes or copies when it runs, which for some its strides decide.

    Args:
        size: what dynamic sizes are.
    """
    if node.target in _MAYBE_COPIES:
        return _is_copied(node, size)
    if node.target is aten.dropout.default:
        return bool(node.args[2])  # off in eval mode
    if node.target is aten.einsum.default and len(node.all_input_nodes) == 1:
        before, after = str(node.args[0]).replace(" ", "").split("->")
        return sorted(before) != sorted(after)  # axes in another order are a view
    if node.target is aten.type_as.default:
        return _changes_type(node)
    return node.target not in _VIEWS and _computes(node)


def _computes(node: fx.Node) -> bool:
    """Whether a call computes by what its schema says: views, sizes and Python's own functions do not."""
    target = node.target
    if target is flex_attention:
        return True
    if target is operator.getitem or not isinstance(target, torch._ops.OpOverload):
        return False
    returns = target._schema.returns
    is_view = bool(returns) and all(r.alias_info is not None and not r.alias_info.is_write for r in returns)
    if is_view and target is not aten.view.dtype and _changes_type(node):
        return True  # `to` may return its argument, and its schema says so
    return not is_view and any(isinstance(leaf, Tensor) for leaf in _leaves(value_of(node)))


def _changes_type(node: fx.Node) -> bool:
    source, result = tensor_of(node.args[0]), tensor_of(node)
    if source is None or result is None:
        return False
    return source.dtype != result.dtype or source.device != result.device


def _is_copied(node: fx.Node, size: Size) -> bool:
    """Whether what may be a view is none: the source's memory has no strides for it."""
    source, result = in_memory(node.args[0], size), tensor_of(node)
    if source is None or result is None:
        return False
    if node.target is aten.contiguous.default:
        return not is_contiguous(source, size)
    return not is_viewable(source, result.shape, size)


def _statistics_bytes(node: fx.Node, size: Size) -> int:
    """Bytes that a norm or attention writes beside its result, for a backward pass that does not come: float32 each."""
    value = tensor_of(node)
    if value is None:
        return 0
    if node.target is aten.layer_norm.default:  # mean and reciprocal deviation of each row
        normalized = len(cast(Sequence[Any], node.args[1]))
        return 2 * 4 * math.prod(size(n) for n in value.shape[: value.ndim - normalized])
    if node.target is aten.scaled_dot_product_attention.default:  # the logarithm of each row's sum
        return 4 * _count(value, size) // size(value.shape[-1])
    return 0


def _flops(node: fx.Node, size: Size) -> int:
    value = value_of(node)
    out = value[0] if node.target is flex_attention else tensor_of(node)
    if out is None:
        return 0
    if node.target is aten.einsum.default:
        return _einsum_flops(node, size)
    first, second = (tensor_of(argument) for argument in [*node.args, None, None][:2])
    if first is None or second is None:
        return 0
    if node.target in (aten.linear.default, aten.matmul.default, aten.mm.default, aten.bmm.default):
        return 2 * _count(out, size) * size(first.shape[-1])
    if node.target in (aten.addmm.default, aten.baddbmm.default):
        return 2 * _count(out, size) * size(second.shape[-1])
    if node.target in _CONVOLUTIONS:
        return 2 * _count(out, size) * math.prod(size(n) for n in second.shape[1:])
    if node.target in _TRANSPOSED:
        return 2 * _count(first, size) * math.prod(size(n) for n in second.shape[1:])
    if node.target in _ATTENTION:
        # Query times keys, and weights times values: the head sizes of the two may differ.
        scores = _count(first, size) // size(first.shape[-1]) * size(second.shape[-2])
        return 2 * scores * (size(first.shape[-1]) + size(out.shape[-1]))
    return 0


def _einsum_flops(node: fx.Node, size: Size) -> int:
    """Two for each combination of all letters; none where there is one operand, and nothing is multiplied."""
    letters = str(node.args[0]).replace(" ", "").partition("->")[0].split(",")
    operands = [tensor_of(operand) for operand in cast(Sequence[Any], node.args[1])]
    if len(operands) != 2 or "." in str(node.args[0]):
        return 0
    sizes = {
        letter: size(n)
        for word, operand in zip(letters, operands, strict=True)
        if operand is not None
        for letter, n in zip(word, operand.shape, strict=True)
    }
    return 2 * math.prod(sizes.values())


def _weight_bytes(program: Program, calls: Iterable[fx.Node]) -> int:
    """Bytes of the weights that computing calls read; a slice counts for what it shows."""
    shown = {node for node in calls if node.target is aten.slice.Tensor and _is_weight(node.args[0])}
    total = 0
    for node in [*program.graph.find_nodes(op="get_attr"), *shown]:
        if any(user not in shown for user in node.users):
            total += bytes_of_node(node)
    return total


def bytes_of_node(node: fx.Node, size: Size = hinted) -> int:
    """Bytes of the tensors that a node gives; a dimension that is expanded counts once."""
    return sum(bytes_of(leaf, size) for leaf in _leaves(value_of(node)) if isinstance(leaf, Tensor))


def _is_weight(argument: Any) -> bool:
    return isinstance(argument, fx.Node) and argument.op == "get_attr"


def _count(tensor: Tensor, size: Size) -> int:
    return math.prod(size(n) for n in tensor.shape)


def _leaves(value: Any) -> list[Any]:
    return torch.utils._pytree.tree_leaves(value)
