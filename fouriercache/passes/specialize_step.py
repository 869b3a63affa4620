"""Resolve the choice of every site for one kind of step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from fouriercache import ops
from fouriercache.errors import PreconditionError
from fouriercache.passes.base import Pass
from fouriercache.passes.edit import remove_inputs, replace_uses
from fouriercache.passes.remove_dead import RemoveDead
from fouriercache.program import Program

Mode = Literal["compute", "reuse"]


@dataclass(frozen=True)
class SpecializeStep(Pass):
    """Fold every `select` to its computed or its predicted value and drop what then is dead.

    A computed step needs no history and returns the new values; a reuse step needs no branches and returns none. Both
    are free of branches, small, and fit a CUDA graph.

    Before::

        main(%0: f32[2,8] x, %1: f32[2,8] slot_0_0 (slot), %2: f32[1] coefficients, %3: bool[] refresh)
          %4: f32[2,8] = add.Tensor(%0, 1)
          %5: f32[1,2,8] = fouriercache.cache_lookup([%1])
          %6: f32[2,8] = fouriercache.predict(%5, %2)
          %7: f32[2,8] = fouriercache.select(%3, %4, %6)
          return [%7, %4]

    After::

        main(%0: f32[2,8] x)
          %1: f32[2,8] = add.Tensor(%0, 1)
          return [%1, %1]

    (The mode is "compute".)

    Requires: `InsertGate`.
    Keeps: 1. a program without `select` nodes.
    Error: exact.
    """

    mode: Mode = "compute"

    def requires(self, program: Program) -> None:
        if not program.history:
            raise PreconditionError(
                "SpecializeStep needs a program with a cache.\n  Run InsertCache to InsertGate first."
            )

    def rewrite(self, program: Program) -> int:
        count = 0
        for node in list(program.graph.find_nodes(op="call_function", target=ops.select)):
            _, computed, predicted = node.args
            replace_uses(node, computed if self.mode == "compute" else predicted)
            program.graph.erase_node(node)
            count += 1
        if not count:
            return 0
        if self.mode == "reuse":
            kept = [(n, o) for n, o in zip(program.results, program.outputs, strict=True) if o.role != "slot"]
            program.set_outputs([node for node, _ in kept], [output for _, output in kept])
        RemoveDead().rewrite(program)
        remove_inputs(program, "refresh", "coefficients", "slot")
        return count
