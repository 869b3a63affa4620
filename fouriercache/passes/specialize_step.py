"""Resolve the choice of every site for one kind of step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import fx

from fouriercache import ops
from fouriercache.errors import PreconditionError
from fouriercache.passes.base import Pass
from fouriercache.passes.edit import remove_inputs, replace_uses
from fouriercache.passes.remove_dead import RemoveDead
from fouriercache.program import Output, Program

Mode = Literal["compute", "reuse", "partial"]


@dataclass(frozen=True)
class SpecializeStep(Pass):
    """Fold every `select` to its computed or its predicted value and drop what then is dead.

    A computed step needs no history and returns the new values; a reuse step needs no branches and returns none. Both
    are free of branches, small, and fit a CUDA graph.

    In mode "partial", sites that `SelectTokens` has cut take the prediction with fresh tokens in it, and return it as
    their new value; in mode "reuse", all take the prediction alone. In both, the sites at the positions `refreshed` are
    computed and return their new values.

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
    refreshed: tuple[int, ...] = ()

    def requires(self, program: Program) -> None:
        if not program.history:
            raise PreconditionError(
                "SpecializeStep needs a program with a cache.\n  Run InsertCache to InsertGate first."
            )

    def rewrite(self, program: Program) -> int:
        selects = list(program.graph.find_nodes(op="call_function", target=ops.select))
        if not selects:
            return 0
        sites = [
            site for position, site in enumerate(program.sites) if self.mode == "compute" or position in self.refreshed
        ]
        computed = {site.name for site in sites}
        columns = {column for site in sites for column in program.columns(site)}
        for node in selects:
            replace_uses(node, node.args[1] if node.meta["site"] in computed else node.args[2])
            program.graph.erase_node(node)
        if self.mode == "reuse":
            for node in list(program.graph.find_nodes(op="call_function", target=ops.scatter_tokens)):
                replace_uses(node, node.args[0])
        kept = [
            (node, output)
            for node, output in zip(program.results, program.outputs, strict=True)
            if _is_new(node, output, columns)
        ]
        program.set_outputs([node for node, _ in kept], [output for _, output in kept])
        RemoveDead().rewrite(program)
        remove_inputs(program, "refresh", "coefficients", "slot", "state", "control")
        return len(selects)


def _is_new(node: fx.Node, output: Output, columns: set[str]) -> bool:
    """Whether a step gives an output a value that is not what it was."""
    if output.role == "slot":
        return output.name in columns or node.target is ops.scatter_tokens
    return output.role == "result" or node.op != "placeholder"
