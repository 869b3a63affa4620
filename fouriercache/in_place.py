"""Writes into parts of a new tensor as the functional calls that give the same, without tracing the model again."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx

aten: Any = torch.ops.aten

_NEW = frozenset({aten.empty_like.default, aten.zeros_like.default, aten.ones_like.default, aten.full_like.default})
"""What makes a tensor that nothing else reads."""

_SCATTERS: dict[Callable[..., Any], Callable[..., Any]] = {
    aten.slice.Tensor: aten.slice_scatter.default,
    aten.select.int: aten.select_scatter.default,
}
"""How a view is taken, and how that part is replaced."""


def mutates(node: fx.Node) -> bool:
    """Whether a call changes one of its inputs."""
    return isinstance(node.target, torch._ops.OpOverload) and node.target._schema.is_mutable


@dataclass(frozen=True)
class _Write:
    """`new[part] = value`: views are those from `new` down to the part, of which one at most is not the whole."""

    new: fx.Node
    views: tuple[fx.Node, ...]
    part: fx.Node
    copy: fx.Node

    @property
    def value(self) -> fx.Node:
        """As the graph has it by now: it may have been written into, too."""
        value = self.copy.args[1]
        assert isinstance(value, fx.Node)  # seen by `_read`
        return value


def replace_writes(graph: fx.Graph) -> bool:
    """Replace `new[part] = value` by a scatter, at every place in the graph or at none.

    It is done where it is plainly the same: `new` is made in the graph, each part is a slice or a row that is taken to
    be written once and for nothing else, the value has the part's sizes and device, and nothing reads `new` before its
    last write. That is how a rotary embedding fills the even and the odd halves of its result.

    Returns:
        Whether the graph is free of calls that change their inputs.
    """
    places = {node: place for place, node in enumerate(graph.nodes)}
    writes: dict[fx.Node, list[_Write]] = {}
    for node in graph.nodes:
        if mutates(node):
            write = _read(node)
            if write is None:
                return False
            writes.setdefault(write.new, []).append(write)
    for new, its in writes.items():
        if any(places[reader] < places[its[-1].copy] for reader in _readers(new, its)):
            return False
    for new, its in writes.items():
        _scatter(graph, new, its)
    return True


def _read(node: fx.Node) -> _Write | None:
    """Read a copy of a whole tensor into a view that nothing else uses; None when it is anything else."""
    if node.target is not aten.copy_.default or node.users or node.kwargs or len(node.args) != 2:
        return None
    into, value = node.args
    if not isinstance(into, fx.Node) or not isinstance(value, fx.Node):
        return None
    views: list[fx.Node] = []
    user, current = node, into
    while current.target in _SCATTERS:
        if set(current.users) != {user} or current.kwargs:
            return None
        views.insert(0, current)
        source = current.args[0]
        assert isinstance(source, fx.Node)  # what a tensor is viewed of is one
        user, current = current, source
    parts = [view for view in views if not _is_whole(view)]
    if current.target not in _NEW or len(parts) != 1 or not _are_alike(into, value):
        return None
    return _Write(current, tuple(views), parts[0], node)


def _is_whole(view: fx.Node) -> bool:
    return view.target is aten.slice.Tensor and view.args[2:] == (0, sys.maxsize)


def _are_alike(into: fx.Node, value: fx.Node) -> bool:
    """Whether devices and sizes are the same, as text: to compare a dynamic size would make a guard of it."""
    a, b = into.meta.get("val"), value.meta.get("val")
    if not isinstance(a, Tensor) or not isinstance(b, Tensor):
        return False
    return (a.device, *map(str, a.shape)) == (b.device, *map(str, b.shape))


def _readers(new: fx.Node, writes: Sequence[_Write]) -> list[fx.Node]:
    """What reads the tensor but to write into it."""
    own = {view for write in writes for view in write.views}
    return [user for user in new.users if user not in own]


def _cast(graph: fx.Graph, write: _Write) -> fx.Node:
    """The value in the dtype of what it is written into, as copying makes it; to be inserted where the graph stands."""
    into, value = write.new.meta["val"].dtype, write.value.meta["val"]
    if value.dtype == into:
        return write.value
    cast = graph.call_function(aten.to.dtype, (write.value, into))
    cast.meta = {**write.copy.meta, "val": value.to(into)}
    return cast


def _scatter(graph: fx.Graph, new: fx.Node, writes: Sequence[_Write]) -> None:
    readers = _readers(new, writes)
    current = new
    for write in writes:
        with graph.inserting_before(write.copy):
            target, where = _SCATTERS[write.part.target], write.part.args[1:]  # type: ignore[index]
            scattered = graph.call_function(target, (current, _cast(graph, write), *where))
        scattered.meta = {**write.copy.meta, "val": new.meta["val"]}
        for node in (write.copy, *reversed(write.views)):
            graph.erase_node(node)
        current = scattered
    for reader in readers:
        reader.replace_input_with(new, current)
