"""What torch asks of the results of a control-flow body."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import fx

from fouriercache.passes.edit import insert_before
from fouriercache.passes.match import shared_with
from fouriercache.program import tensor_of

aten = torch.ops.aten


def own_results(body: fx.GraphModule) -> None:
    """Make every result contiguous and the owner of its memory."""
    graph = body.graph
    end = graph.output_node()
    results: Sequence[Any] = end.args[0]  # type: ignore[assignment]
    taken: set[fx.Node] = set(graph.find_nodes(op="placeholder"))
    owned = []
    for node in results:
        memory = shared_with(node)
        if memory & taken or _has_loose_strides(node):
            owned.append(insert_before(end, aten.clone.default, node, like=node, memory_format=torch.contiguous_format))
        else:
            owned.append(insert_before(end, aten.contiguous.default, node, like=node))
        taken |= memory
    end.args = (tuple(owned),)
    body.recompile()


def _has_loose_strides(node: fx.Node) -> bool:
    """Whether a dimension of size 1 has a stride that `contiguous` would leave as it is and a fresh tensor has not."""
    value = tensor_of(node)
    assert value is not None
    wanted = torch.empty_like(value, memory_format=torch.contiguous_format).stride()
    pairs = zip(value.shape, value.stride(), wanted, strict=True)
    return any(str(size) == "1" and str(have) != str(want) for size, have, want in pairs)


def result_types(body: fx.GraphModule) -> list[tuple[Any, ...]]:
    """What must be equal in both bodies: each result's dtype, device, sizes and strides."""
    found = []
    results: Any = body.graph.output_node().args[0]
    for node in results:
        value = tensor_of(node)
        assert value is not None
        found.append((value.dtype, value.device, list(map(str, value.shape)), list(map(str, value.stride()))))
    return found
