"""Which attention maps a block has. Nothing here edits."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import fx

from fouriercache.passes.match import CASTS, descendants, is_view, strip
from fouriercache.program import NoMatch, Program, sizes_of, tensor_of
from fouriercache.tokens.scores import MapKind

aten = torch.ops.aten
_SOFTMAX = {aten.softmax.int, aten._softmax.default}
_PRODUCTS = {aten.matmul.default, aten.bmm.default}
_SCALES = {aten.mul.Tensor, aten.div.Tensor, aten.add.Tensor, aten.mul.Scalar, aten.div.Scalar}


@dataclass(frozen=True)
class AttentionMap:
    """An attention of a block: `node` is the fused call, or the softmax that is its map, [B, heads, N, M]."""

    node: fx.Node
    query: fx.Node
    key: fx.Node

    @property
    def is_fused(self) -> bool:
        """Whether the map itself is nowhere in the graph."""
        return self.node.target is aten.scaled_dot_product_attention.default


def find_map(program: Program, block: str, kind: MapKind, tokens: int) -> AttentionMap | NoMatch:
    """Return the attention of a block among its `tokens` ("self"), or from them to others ("cross"), or why not.

    Others are what does not depend on the sample: a text.
    """
    moving = descendants(program.inputs_of("sample"))
    nodes = [node for node in program.calls() if node.meta.get("block") == block]
    maps = [found for found in _maps(nodes) if (found.key in moving) == (kind == "self")]
    if not maps:
        return NoMatch(f"{block} has no {kind}-attention")
    found = maps[0]
    rows, columns = (sizes_of(_tensor(node))[-2] for node in (found.query, found.key))
    if rows != tokens or (kind == "self" and columns != tokens):
        return NoMatch(f"{block}: the {kind}-attention map is [{rows}, {columns}], the site has {tokens} tokens")
    if _tensor(found.query).ndim != 4:
        return NoMatch(f"{block}: the {kind}-attention has no dimension for heads", found.node.name)
    return found


def _maps(nodes: Iterable[fx.Node]) -> Iterable[AttentionMap]:
    for node in nodes:
        if node.target is aten.scaled_dot_product_attention.default:
            query, key = node.args[:2]
            assert isinstance(query, fx.Node)
            assert isinstance(key, fx.Node)
            yield AttentionMap(node, query, key)
        elif node.target in _SOFTMAX and isinstance(node.args[0], fx.Node):
            product = strip(node.args[0], *CASTS, *_SCALES)
            query, key = (*product.args, None, None)[:2]
            if product.target in _PRODUCTS and isinstance(query, fx.Node) and isinstance(key, fx.Node):
                # A product with the keys turned; before the turn they are [..., M, channels].
                turned = strip(key, *CASTS, *_SCALES)
                yield AttentionMap(node, query, _unturned(turned))


def _unturned(key: fx.Node) -> fx.Node:
    return key.args[0] if is_view(key) and isinstance(key.args[0], fx.Node) else key


def _tensor(node: fx.Node) -> torch.Tensor:
    value = tensor_of(node)
    assert value is not None
    return value
