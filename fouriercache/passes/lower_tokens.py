"""Write the choice of tokens in plain ATen."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor, fx

from fouriercache import ops
from fouriercache.passes.base import Pass
from fouriercache.passes.edit import insert_traced, replace_uses
from fouriercache.program import Program

_BODIES: dict[object, Callable[..., Tensor]] = {
    ops.gather_tokens: ops.gather_rows,
    ops.scatter_tokens: ops.scatter_rows,
}


@dataclass(frozen=True)
class LowerTokens(Pass):
    """Replace `gather_tokens` and `scatter_tokens` by `gather` and `scatter`, which every backend knows.

    Before::

        main(%0: f32[2,6,8], %1: i64[2,3])
          %2: f32[2,3,8] = fouriercache.gather_tokens(%0, %1)
          return [%2]

    After::

        main(%0: f32[2,6,8], %1: i64[2,3])
          %2: i64[2,3,1] = view.default(%1, [2, 3, 1])
          %3: i64[2,3,8] = expand.default(%2, [2, 3, 8])
          %4: f32[2,3,8] = gather.default(%0, 1, %3)
          return [%4]

    Requires: nothing.
    Keeps: 1. every other call.
    Error: exact.
    """

    def rewrite(self, program: Program) -> int:
        count = 0
        for node in [node for node in program.calls() if node.target in _BODIES]:
            new = insert_traced(node, _BODIES[node.target], *_nodes(node), like=node)
            replace_uses(node, new)
            program.graph.erase_node(node)
            count += 1
        return count


def _nodes(node: fx.Node) -> list[fx.Node]:
    return [argument for argument in node.args if isinstance(argument, fx.Node)]
