"""What several passes ask of the updates that are added to a token stream. Nothing here edits."""

from __future__ import annotations

import torch
from torch import fx

from fouriercache.program import sizes_of, value_of

aten = torch.ops.aten


def only_reader(node: fx.Node) -> fx.Node | None:
    """The one node that reads this one; None if there are more, or none."""
    return next(iter(node.users)) if len(node.users) == 1 else None


def _is_update(node: fx.Node) -> bool:
    """Whether the call adds something else to its first argument: a tensor, or the product of two."""
    adds = node.target in (aten.addcmul.default, aten.add.Tensor) and not node.kwargs
    others = node.args[1:]
    return adds and all(isinstance(other, fx.Node) for other in others) and node.args[0] not in others


def updates_of(node: fx.Node) -> list[fx.Node]:
    """The updates of a stream from `node` on, one after the other, each the only reader of the one before."""
    found: list[fx.Node] = []
    while (reader := only_reader(node)) is not None and _is_update(reader) and reader.args[0] is node:
        found.append(reader)
        node = reader
    return found


def type_text(node: fx.Node) -> tuple[str, ...]:
    """Precision, sizes and strides, as text: comparing symbolic sizes would add guards to the capture."""
    value = value_of(node)
    return (str(value.dtype), *map(str, sizes_of(value)), *map(str, value.stride()))
