"""Drop what nobody reads."""

from __future__ import annotations

from dataclasses import dataclass

from fouriercache.passes.base import Pass
from fouriercache.passes.merge_duplicates import is_pure
from fouriercache.program import Program


@dataclass(frozen=True)
class RemoveDead(Pass):
    """Erase pure calls and weights that no result depends on.

    This is where a reuse step becomes cheap: once a branch is replaced by its prediction, its norms, projections and
    attention have no reader. FX's own elimination keeps attention and dropout, which are tagged as random.

    Before::

        main(%0: f32[2,8])
          %1: f32[2,8] = sin.default(%0)
          %2: f32[2,8] = cos.default(%0)
          return [%2]

    After::

        main(%0: f32[2,8])
          %1: f32[2,8] = cos.default(%0)
          return [%1]

    Requires: nothing.
    Keeps: 1. graph inputs.
           2. calls that write to their arguments.
           3. calls that draw random numbers: dropping one would shift every later draw.
    Error: exact.
    """

    def rewrite(self, program: Program) -> int:
        count = 0
        for node in reversed(list(program.graph.nodes)):
            erasable = node.op == "get_attr" or (node.op == "call_function" and is_pure(node))
            if erasable and not node.users:
                program.graph.erase_node(node)
                count += 1
        used = {str(node.target) for node in program.graph.find_nodes(op="get_attr")}
        for name in set(program.attributes) - used:
            del program.attributes[name]
            program.sources.pop(name, None)
        return count
