"""Resolve the choice of every site inside the graph, by one `torch.cond`."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, fx

from fouriercache import ops
from fouriercache.errors import PassError, PreconditionError
from fouriercache.passes.base import Pass
from fouriercache.passes.bodies import own_results, result_types
from fouriercache.passes.copies import build_body
from fouriercache.passes.edit import insert_cond
from fouriercache.passes.remove_dead import RemoveDead
from fouriercache.passes.specialize_step import SpecializeStep
from fouriercache.program import Program

_BODIES = ("true_body", "false_body")


@dataclass(frozen=True)
class OutlineCond(Pass):
    """Turn the choice of all sites into one `torch.cond` over the two specialised graphs.

    One graph then serves both kinds of steps: one ONNX `If`, one engine, a choice taken on the device. One cond for
    each block would cost a host branch and copies for each block.

    The bodies read nothing but their operands; weights are operands too. Their results are contiguous, equal in type,
    and share no memory with an operand or each other, as torch asks of bodies. A step that does not refresh returns
    a copy of the newest slot that holds what a refreshing step would return there.

    Before::

        main(%0: f32[2,8] x, %1: f32[2,8] slot_0_0 (slot), %2: f32[1] coefficients, %3: bool[] refresh)
          %4: f32[2,8] = add.Tensor(%0, 1)
          %5: f32[1,2,8] = fouriercache.cache_lookup([%1])
          %6: f32[2,8] = fouriercache.predict(%5, %2)
          %7: f32[2,8] = fouriercache.select(%3, %4, %6)
          return [%7, %4]

    After::

        false_body(%0: f32[2,8], %1: f32[2,8], %2: f32[1])
          %3: f32[1,2,8] = fouriercache.cache_lookup([%1])
          %4: f32[2,8] = fouriercache.predict(%3, %2)
          %5: f32[2,8] = contiguous.default(%4)
          %6: f32[2,8] = clone.default(%1, memory_format=torch.contiguous_format)
          return [%5, %6]

        true_body(%0: f32[2,8], %1: f32[2,8], %2: f32[1])
          %3: f32[2,8] = add.Tensor(%0, 1)
          %4: f32[2,8] = contiguous.default(%3)
          %5: f32[2,8] = clone.default(%3, memory_format=torch.contiguous_format)
          return [%4, %5]

        main(%0: f32[2,8] x, %1: f32[2,8] slot_0_0 (slot), %2: f32[1] coefficients, %3: bool[] refresh)
          %4: (f32[2,8], f32[2,8]) = cond(%3, @true_body, @false_body, [%0, %1, %2])
          %5: f32[2,8] = getitem(%4, 0)
          %6: f32[2,8] = getitem(%4, 1)
          return [%5, %6]

    `compute` and `reuse` are passes that finish the bodies, as they would finish the specialised graphs.

    Requires: `InsertGate`.
    Keeps: 1. a program without `select` nodes.
           2. the program's inputs, also those that neither body reads.
    Error: exact.
    """

    compute: tuple[Pass, ...] = ()
    reuse: tuple[Pass, ...] = ()

    def requires(self, program: Program) -> None:
        if not program.inputs_of("refresh"):
            raise PreconditionError(
                f"OutlineCond needs a `refresh` input to branch on, found {len(program.inputs)} others.\n"
                "  Run InsertCache, InsertPredictor and InsertGate first, and do not specialise the step."
            )

    def rewrite(self, program: Program) -> int:
        count = len(program.graph.find_nodes(op="call_function", target=ops.select))
        if not count:
            return 0
        computed, predicted = program.clone(), program.clone()
        newest = _newest(program)
        for body, step in ((computed, SpecializeStep("compute")), (predicted, SpecializeStep("reuse"))):
            for pass_ in (step, *(self.compute if body is computed else self.reuse)):
                pass_.apply(body)
        (refresh,) = program.inputs_of("refresh")
        results = ([node.name for node in computed.results], [node.name for node in predicted.results] + newest)
        old = list(program.calls())
        read = [node for body in (computed, predicted) for node in body.graph.nodes if node.op != "call_function"]
        operands = _operands(program, {node.name for node in read} | set(newest))
        bodies = [build_body(body, operands, names) for body, names in zip((computed, predicted), results, strict=True)]
        for built in bodies:
            own_results(built)
        chosen = insert_cond(
            program, refresh, dict(zip(_BODIES, bodies, strict=True)), list(dict.fromkeys(operands.values()))
        )
        program.set_outputs(chosen, program.outputs)
        for node in reversed(old):
            program.graph.erase_node(node)
        RemoveDead().rewrite(program)
        return count

    def ensures(self, program: Program) -> None:
        types = [result_types(program.attributes[name]) for name in _BODIES if name in program.attributes]
        if types and types[0] != types[1]:
            raise PassError(f"the bodies return different types: {types[0]} and {types[1]}")


def _newest(program: Program) -> list[str]:
    """The newest slot that holds each column of the results, by name."""
    found: dict[str, str] = {}
    for name, slot in sorted(program.slots.items(), key=lambda item: item[1].age):
        found.setdefault(slot.column, name)
    return [found[output.name] for output in program.outputs if output.role == "slot"]


def _operands(program: Program, names: set[str]) -> dict[str, fx.Node]:
    """The node of `program` that stands for each name in the bodies.

    Operands must not alias each other, so names of one and the same weight share the first one's operand.
    """
    found = {node.name: node for node in program.placeholders if node.name in names}
    weights: dict[int, fx.Node] = {}
    for node in program.graph.find_nodes(op="get_attr"):
        value = program.attributes[str(node.target)]
        if node.name in names and isinstance(value, Tensor):
            found[node.name] = weights.setdefault(id(value), node)
    return found
