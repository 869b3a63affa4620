"""What a program costs, counted on the graph: arithmetic, launches, weight bytes."""

from __future__ import annotations

import math
import operator
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx

from fouriercache.program import Program, tensor_of, value_of

aten = torch.ops.aten
_CONVOLUTIONS = {aten.conv1d.default, aten.conv2d.default, aten.conv3d.default, aten.convolution.default}


@dataclass(frozen=True)
class ModeCost:
    """Cost of one step: `flops` (two for each multiply-add of matrix products, convolutions and attention), `launches`
    (calls that compute; views are free) and `parameters_read` (bytes of weights that the step reads).
    """

    flops: int
    launches: int
    parameters_read: int

    def __add__(self, other: ModeCost) -> ModeCost:
        return ModeCost(
            self.flops + other.flops,
            self.launches + other.launches,
            self.parameters_read + other.parameters_read,
        )


def cost_of(*programs: Program) -> ModeCost:
    """Count the cost of running the programs once each, at the batch size of the capture."""
    total = ModeCost(0, 0, 0)
    for program in programs:
        calls = list(program.calls())
        total += ModeCost(
            sum(_flops(node) for node in calls),
            sum(_is_launch(node) for node in calls),
            _weight_bytes(program, calls),
        )
    return total


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
    out = tensor_of(node)
    if out is None:
        return 0
    first, second = (tensor_of(argument) for argument in [*node.args, None, None][:2])
    if first is None or second is None:
        return 0
    if node.target in (aten.linear.default, aten.matmul.default, aten.mm.default, aten.bmm.default):
        return 2 * _size(out) * _hint(first.shape[-1])
    if node.target is aten.addmm.default:
        return 2 * _size(out) * _hint(second.shape[-1])
    if node.target in _CONVOLUTIONS:
        return 2 * _size(out) * math.prod(_hint(n) for n in second.shape[1:])
    if node.target is aten.scaled_dot_product_attention.default:
        # Query times keys, and weights times values: the head sizes of the two may differ.
        scores = _size(first) // _hint(first.shape[-1]) * _hint(second.shape[-2])
        return 2 * scores * (_hint(first.shape[-1]) + _hint(out.shape[-1]))
    return 0


def _weight_bytes(program: Program, calls: Iterable[fx.Node]) -> int:
    """Bytes of the weights that computing calls read; a slice counts for what it shows."""
    shown = {node for node in calls if node.target is aten.slice.Tensor and _is_weight(node.args[0])}
    total = 0
    for node in [*program.graph.find_nodes(op="get_attr"), *shown]:
        if any(user not in shown for user in node.users):
            value = tensor_of(node)
            total += 0 if value is None else _size(value) * value.element_size()
    return total


def _is_weight(argument: Any) -> bool:
    return isinstance(argument, fx.Node) and argument.op == "get_attr"


def _size(tensor: Tensor) -> int:
    return math.prod(_hint(n) for n in tensor.shape)


def _hint(size: Any) -> int:
    """The number a dynamic size had in the capture."""
    return size if isinstance(size, int) else int(size.node.hint)


def _leaves(value: Any) -> list[Any]:
    return torch.utils._pytree.tree_leaves(value)
