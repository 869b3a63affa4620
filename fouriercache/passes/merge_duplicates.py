"""Compute equal things once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import fx
from torch._higher_order_ops.flex_attention import flex_attention

from fouriercache.passes.base import Pass
from fouriercache.passes.edit import replace_uses
from fouriercache.passes.match import shared_with, written
from fouriercache.program import Program


@dataclass(frozen=True)
class MergeDuplicates(Pass):
    """Replace a call by an earlier one with the same target and arguments.

    Every DiT block of diffusers owns its timestep embedder, so the same sinusoids are computed once a block.

    Before::

        main(%0: f32[2,8])
          %1: f32[2,8] = sin.default(%0)
          %2: f32[2,8] = sin.default(%0)
          %3: f32[2,8] = add.Tensor(%1, %2)
          return [%3]

    After::

        main(%0: f32[2,8])
          %1: f32[2,8] = sin.default(%0)
          %2: f32[2,8] = add.Tensor(%1, %1)
          return [%2]

    Requires: nothing.
    Keeps: 1. calls that draw random numbers, that write to their arguments, or that read what another call writes.
           2. calls that differ in any argument.
    Error: exact.
    """

    def rewrite(self, program: Program) -> int:
        seen: dict[Any, fx.Node] = {}
        count = 0
        touched = written(program)
        for node in list(program.graph.nodes):
            if node.op == "get_attr":
                key: Any = ("get_attr", program.sources.get(str(node.target), str(node.target)))
            elif node.op == "call_function" and is_pure(node) and not _reads(node, touched):
                key = (node.target, _key(node.args), _key(node.kwargs))
            else:
                continue
            first = seen.setdefault(key, node)
            if first is not node:
                replace_uses(node, first)
                program.graph.erase_node(node)
                count += 1
        return count


def is_pure(node: fx.Node) -> bool:
    """Whether a call gives the same for the same arguments and does nothing else."""
    target = node.target
    if not isinstance(target, torch._ops.OpOverload):
        return not isinstance(target, torch._ops.HigherOrderOperator) or target is flex_attention
    if target._schema.is_mutable:
        return False
    return torch.Tag.nondeterministic_seeded not in target.tags or _is_dry(node, target)


def _is_dry(node: fx.Node, target: torch._ops.OpOverload) -> bool:
    """Attention and dropout are tagged as random; outside training, or with probability 0, they are not."""
    names = [argument.name for argument in target._schema.arguments]
    given = {argument.name: argument.default_value for argument in target._schema.arguments}
    given |= dict(zip(names, node.args, strict=False)) | node.kwargs
    return given.get("train") is False or any(
        type(given.get(n)) in (int, float) and not given[n] for n in ("p", "dropout_p")
    )


def _reads(node: fx.Node, touched: set[fx.Node]) -> bool:
    return bool(touched) and any(shared_with(source) & touched for source in node.all_input_nodes)


def _key(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return tuple(_key(item) for item in value)
    if isinstance(value, dict):
        return tuple(sorted((name, _key(item)) for name, item in value.items()))
    # 1 == 1.0 == True in Python, not in ATen.
    return value if isinstance(value, fx.Node) else (type(value), str(value))
