"""Element-wise calls of a graph that write their result where an argument lies that nothing reads any more.

A program has no call that changes its inputs: passes, exports and compilers rely on that. Eager torch, which runs it
call by call, then asks for new memory at each of them. A cached step is little else than such calls, and pays for new
memory several times what the sums cost.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, fx

from fouriercache.program import tensor_of, value_of

aten: Any = torch.ops.aten

_IN_PLACE = {
    aten.add.Tensor: aten.add_.Tensor,
    aten.sub.Tensor: aten.sub_.Tensor,
    aten.mul.Tensor: aten.mul_.Tensor,
    aten.addcmul.default: aten.addcmul_.default,
    aten.addmm.default: aten.addmm.out,  # torch's counter of FLOPs knows it, and does not know addmm_
    aten.silu.default: aten.silu_.default,
    aten.gelu.default: aten.gelu_.default,
}
_COMMUTATIVE = {aten.add.Tensor, aten.mul.Tensor}
_NEW = frozenset({
    *_IN_PLACE, aten.clone.default, aten.linear.default, aten.addmm.default, aten.baddbmm.default, aten.bmm.default,
    aten.mm.default, aten.conv2d.default, aten.conv3d.default, aten.convolution.default, aten.layer_norm.default,
    aten.rms_norm.default, aten.group_norm.default, aten.scaled_dot_product_attention.default, aten.cat.default,
    aten.stack.default, aten.pixel_unshuffle.default, aten.div.Tensor, aten.neg.default,
})  # fmt: skip
"""Calls that return new memory, whatever they are given. Any other may return an argument, or a view of one."""


def write_in_place(graph: fx.Graph) -> int:
    """Let calls of a functional graph write into arguments that are not read again; return how many do.

    The values are the same to the bit. A call is changed when its first argument (or the other, where they may change
    places) lies in memory that the graph itself made, has the result's dtype, sizes and strides, and when neither it
    nor anything that may share its memory is read afterwards or returned. The graph's inputs and weights are never
    written to. The result does not serve gradients, which need what is written over.
    """
    memory = _Memory(graph)
    count = 0
    for place, node in enumerate(graph.nodes):
        for old in _candidates(node):
            if _types(old) == _types(node) is not None and memory.is_free(old, node, place):
                rest = [argument for argument in node.args if argument is not old]
                memory.join(node, old)
                node.target, node.args = _IN_PLACE[node.target], (old, *rest)
                if node.target is aten.addmm.out:
                    node.kwargs = {**node.kwargs, "out": old}
                count += 1
                break
    return count


def _candidates(node: fx.Node) -> Iterator[fx.Node]:
    """The arguments that a call could write its result into."""
    if node.op != "call_function" or node.target not in _IN_PLACE or not node.args:
        return
    first, *others = node.args
    if isinstance(first, fx.Node) and not any(first is other for other in others):
        yield first
        # numbers in a tensor without dimensions are read in another way as the second operand than as the first
        is_plain = _types(first) is not None and value_of(first).ndim > 0 and not value_of(first).is_complex()
        if node.target in _COMMUTATIVE and not node.kwargs and is_plain and isinstance(others[0], fx.Node):
            yield others[0]


def _types(node: fx.Node) -> tuple[object, ...] | None:
    value = tensor_of(node)
    if value is None or value.is_sparse or value.is_quantized:
        return None
    return value.dtype, value.device, [*map(str, value.shape)], [*map(str, value.stride())]


class _Memory:
    """Which nodes may share memory, who made it, and when it is read last."""

    def __init__(self, graph: fx.Graph) -> None:
        self._above: dict[fx.Node, fx.Node] = {}
        self._given: set[fx.Node] = set()
        self._read: dict[fx.Node, list[tuple[int, fx.Node]]] = {}
        places = {node: place for place, node in enumerate(graph.nodes)}
        for node in graph.nodes:
            reads = sorted((places[user], user) for user in node.users)
            self._above[node], self._read[node] = node, reads
            if node.op != "call_function":
                self._given.add(node)
            elif node.target not in _NEW and _holds_tensor(node):
                for source in node.all_input_nodes:
                    if _holds_tensor(source):
                        self.join(node, source)
                if not node.all_input_nodes:
                    self._given.add(node)

    def join(self, node: fx.Node, other: fx.Node) -> None:
        """Note that the two may share memory."""
        top, below = self._top(other), self._top(node)
        if top is below:
            return
        self._above[below] = top
        self._read[top] = self._read[top] + self._read[below]
        if below in self._given:
            self._given.add(top)

    def is_free(self, old: fx.Node, reader: fx.Node, place: int) -> bool:
        """Whether the graph made the memory of `old`, and `reader`, at `place`, reads it once and last."""
        top = self._top(old)
        if top in self._given or any(
            self._top(source) is top for source in reader.all_input_nodes if source is not old
        ):
            return False
        return all(user is reader or where < place for where, user in self._read[top])

    def _top(self, node: fx.Node) -> fx.Node:
        while (above := self._above[node]) is not node:
            node = above
        return node


def _holds_tensor(node: fx.Node) -> bool:
    value = node.meta.get("val")
    return value is None or any(isinstance(leaf, Tensor) for leaf in torch.utils._pytree.tree_leaves(value))
