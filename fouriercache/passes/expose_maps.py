"""Compute attention with its map in the open, where a score asks for the map."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx

from fouriercache.errors import PreconditionError
from fouriercache.passes.attention_maps import AttentionMap, find_map
from fouriercache.passes.base import Pass
from fouriercache.passes.edit import insert_traced, replace_uses
from fouriercache.passes.token_wise import TokenRegion, find_region
from fouriercache.program import NoMatch, Program, value_of
from fouriercache.tokens.scores import MapKind

_NAMES = ("query", "key", "value", "attn_mask", "dropout_p", "is_causal", "scale", "enable_gqa")


@dataclass(frozen=True)
class ExposeMaps(Pass):
    """Write a fused attention as matrix product, softmax and matrix product, in float32.

    Only in blocks with an MLP whose tokens can be chosen, and only for the kinds of attention that the score looks at:
    a fused attention is faster and needs no memory for its map.

    Before::

        main(%0: f32[2,4,6,8], %1: f32[2,4,6,8], %2: f32[2,4,6,8])
          %3: f32[2,4,6,8] = scaled_dot_product_attention.default(%0, %1, %2)
          return [%3]

    After::

        main(%0: f32[2,4,6,8], %1: f32[2,4,6,8], %2: f32[2,4,6,8])
          %3: f32[2,4,6,8] = mul.Tensor(%0, 0.353...)
          %4: f32[2,4,8,6] = transpose.int(%1, -2, -1)
          %5: f32[2,4,6,6] = matmul.default(%3, %4)
          %6: f32[2,4,6,6] = softmax.int(%5, -1)
          %7: f32[2,4,6,8] = matmul.default(%6, %2)
          return [%7]

    Requires: `FindSites`.
    Keeps: 1. attention of a kind that is not asked for, or in a block without such an MLP.
           2. attention that the model itself computes with a softmax.
           3. causal attention, attention with groups of heads, and attention with dropout.
    Error: rounding; the sums are taken in another order.
    """

    kinds: tuple[MapKind, ...] = ("self",)

    def requires(self, program: Program) -> None:
        if not program.found:
            raise PreconditionError("ExposeMaps needs to know the MLPs of each block.\n  Run FindSites first.")

    def rewrite(self, program: Program) -> int:
        found: dict[fx.Node, AttentionMap] = {}
        for site in program.found.get("branch", ()):
            region = find_region(program, site) if site.value in program.named() else None
            if isinstance(region, TokenRegion):
                maps = [find_map(program, site.block, kind, region.tokens) for kind in self.kinds]
                found |= {here.node: here for here in maps if isinstance(here, AttentionMap) and here.is_fused}
        return sum(self._expose(program, node) for node in found)

    def _expose(self, program: Program, node: fx.Node) -> int:
        given: dict[str, Any] = dict(zip(_NAMES, node.args, strict=False)) | node.kwargs
        if given.get("is_causal") or given.get("enable_gqa") or given.get("dropout_p"):
            self.refuse(program, NoMatch("the attention is causal, grouped or drops out", node.name))
            return 0
        scale, mask = given.get("scale"), given.get("attn_mask")
        strides = value_of(node).stride()
        is_turned = len(strides) == 4 and str(strides[1]) == str(value_of(node).shape[-1]) != str(strides[2])

        def attend(query: Tensor, key: Tensor, value: Tensor, *masks: Tensor) -> Tensor:
            by = query.shape[-1] ** -0.5 if scale is None else scale
            scores = (_as(query, torch.float32) * by) @ _as(key, torch.float32).transpose(-2, -1)
            for given in masks:
                dark = torch.zeros_like(scores).masked_fill(~given, -torch.inf) if given.dtype == torch.bool else given
                scores = scores + dark
            mixed = _as(torch.softmax(scores, dim=-1), value.dtype) @ value
            # Views behind the attention may be possible only in the layout that the fused call gave.
            return mixed.transpose(1, 2).contiguous().transpose(1, 2) if is_turned else mixed

        sources = [node.args[0], node.args[1], node.args[2], *([mask] if mask is not None else [])]
        new = insert_traced(node, attend, *sources, like=node)
        replace_uses(node, new)
        node.graph.erase_node(node)
        return 1


def _as(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    return tensor if tensor.dtype == dtype else tensor.to(dtype)
