"""What a program costs, counted on the graph: arithmetic, launches, bytes of weights, kept features and activations."""

from __future__ import annotations

import math
import operator
from collections.abc import Collection, Container, Iterable
from dataclasses import astuple, dataclass, replace
from typing import Any

import torch
from torch import Tensor, fx
from torch._higher_order_ops.flex_attention import flex_attention

from fouriercache.program import Program, tensor_of, value_of

aten = torch.ops.aten
_KEPT = ("slot", "state")
_CONVOLUTIONS = {aten.conv1d.default, aten.conv2d.default, aten.conv3d.default, aten.convolution.default}


@dataclass(frozen=True)
class ModeCost:
    """Cost of one step, at the batch size of the capture.

    Attributes:
        flops: two for each multiply-add of matrix products, convolutions and attention.
        launches: calls that compute; views are free.
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


def cost_of(*programs: Program) -> ModeCost:
    """Count the cost of running the programs once each."""
    total = ModeCost(0, 0, 0)
    for program in programs:
        calls = list(program.calls())
        kept = [node for node, output in zip(program.results, program.outputs, strict=True) if output.role in _KEPT]
        total += replace(
            cost_of_calls(calls),
            parameters_read=_weight_bytes(program, calls),
            kept_read=sum(_bytes(node) for node in program.inputs_of("slot", "state")),
            kept_written=sum(_bytes(node) for node in kept),
        )
    return total


def cost_of_calls(calls: Iterable[fx.Node]) -> ModeCost:
    """Count FLOPs, launches and activations of some calls of a program."""
    launches = [node for node in calls if _is_launch(node)]
    return ModeCost(
        sum(_flops(node) for node in launches), len(launches), 0, activations=sum(_bytes(node) for node in launches)
    )


def bytes_kept(canonical: Program, columns: Container[str]) -> int:
    """Bytes of features that one pass of a trajectory keeps once its history is full.

    Args:
        columns: those that are kept; a column that no cached step reads is not.
    """
    return sum(_bytes(node) for node in canonical.inputs_of("slot") if canonical.slots[node.name].column in columns)


def block_flops(blocks: Collection[str], *programs: Program) -> int:
    """Count the arithmetic of the programs that belongs to the blocks at these paths."""
    return sum(_flops(node) for program in programs for node in program.calls() if node.meta.get("block") in blocks)


def _is_launch(node: fx.Node) -> bool:
    """Whether a call computes: views, sizes and Python's own functions do not."""
    target = node.target
    if target is operator.getitem or not isinstance(target, torch._ops.OpOverload):
        return False
    returns = target._schema.returns
    is_view = bool(returns) and all(r.alias_info is not None and not r.alias_info.is_write for r in returns)
    if is_view and _changes_type(node):
        return True  # `to` may return its argument, and its schema says so
    return not is_view and any(isinstance(leaf, Tensor) for leaf in _leaves(value_of(node)))


def _changes_type(node: fx.Node) -> bool:
    source, result = tensor_of(node.args[0]), tensor_of(node)
    if source is None or result is None or node.target is aten.view.dtype:
        return False
    return source.dtype != result.dtype or source.device != result.device


def _flops(node: fx.Node) -> int:
    value = value_of(node)
    out = value[0] if node.target is flex_attention else tensor_of(node)
    if out is None:
        return 0
    first, second = (tensor_of(argument) for argument in [*node.args, None, None][:2])
    if first is None or second is None:
        return 0
    if node.target in (aten.linear.default, aten.matmul.default, aten.mm.default, aten.bmm.default):
        return 2 * _size(out) * hinted(first.shape[-1])
    if node.target is aten.addmm.default:
        return 2 * _size(out) * hinted(second.shape[-1])
    if node.target in _CONVOLUTIONS:
        return 2 * _size(out) * math.prod(hinted(n) for n in second.shape[1:])
    if node.target in (aten.scaled_dot_product_attention.default, flex_attention):
        # Query times keys, and weights times values: the head sizes of the two may differ.
        scores = _size(first) // hinted(first.shape[-1]) * hinted(second.shape[-2])
        return 2 * scores * (hinted(first.shape[-1]) + hinted(out.shape[-1]))
    return 0


def _weight_bytes(program: Program, calls: Iterable[fx.Node]) -> int:
    """Bytes of the weights that computing calls read; a slice counts for what it shows."""
    shown = {node for node in calls if node.target is aten.slice.Tensor and _is_weight(node.args[0])}
    total = 0
    for node in [*program.graph.find_nodes(op="get_attr"), *shown]:
        if any(user not in shown for user in node.users):
            total += _bytes(node)
    return total


def _bytes(node: fx.Node) -> int:
    """Bytes of the tensors that a node gives."""
    return sum(_size(leaf) * leaf.element_size() for leaf in _leaves(value_of(node)) if isinstance(leaf, Tensor))


def _is_weight(argument: Any) -> bool:
    return isinstance(argument, fx.Node) and argument.op == "get_attr"


def _size(tensor: Tensor) -> int:
    return math.prod(hinted(n) for n in tensor.shape)


def hinted(size: Any) -> int:
    """The number a dynamic size had in the capture; 1 for one that the data alone tell (tokens routed to an expert)."""
    if isinstance(size, int):
        return size
    hint = size.node.hint
    return 1 if hint is None else int(hint)


def _leaves(value: Any) -> list[Any]:
    return torch.utils._pytree.tree_leaves(value)
