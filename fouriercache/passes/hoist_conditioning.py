"""Move what does not depend on the latents or the cache to the front of the graph."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import dropwhile

import torch
from torch import fx

from fouriercache.errors import PreconditionError
from fouriercache.passes.base import Pass
from fouriercache.passes.edit import insert_before, replace_uses
from fouriercache.passes.match import descendants
from fouriercache.program import Program, Role, tensor_of

aten = torch.ops.aten
MOVING: tuple[Role, ...] = ("sample", "slot", "state", "control", "coefficients", "refresh")
"""Roles of the inputs that are new in every call. What depends on none of them depends on timestep and conditioning."""


@dataclass(frozen=True)
class HoistConditioning(Pass):
    """Order the graph so that everything that depends on timestep, conditioning and weights alone comes first.

    In a DiT this is the timestep and class embedding and every modulation: 0.3 % of a full step's arithmetic, but
    half of its weights. `split` then cuts it off as a program of its own, which runs once for a (timestep,
    conditioning) pair, or once for all steps of a trajectory in one batch. A size read from the latents is read from
    a conditioning input of the same size instead, so that it does not tie the hoisted part to the latents.

    Before::

        main(%0: f32[s0,8] x, %1: f32[s0,8] t)
          %2: f32[s0,8] = sin.default(%0)
          %3: f32[s0,8] = cos.default(%1)
          %4: f32[s0,8] = add.Tensor(%2, %3)
          return [%4]

    After::

        main(%0: f32[s0,8] x, %1: f32[s0,8] t)
          %2: f32[s0,8] = cos.default(%1)
          %3: f32[s0,8] = sin.default(%0)
          %4: f32[s0,8] = add.Tensor(%3, %2)
          return [%4]

    Requires: nothing.
    Keeps: 1. a graph that is in this order.
           2. a size that no conditioning input has.
    Error: exact.
    """

    def rewrite(self, program: Program) -> int:
        count = _free_sizes(program)
        fixed = set(hoistable(program, MOVING))
        first = next((node for node in program.calls() if node not in fixed), None)
        late = False
        for node in list(program.graph.nodes):
            late = late or node is first
            if late and first is not None and node in fixed:
                for source in node.all_input_nodes:
                    if source.op == "get_attr" and not source < first:
                        first.prepend(source)
                first.prepend(node)
                count += 1
        return count


def hoistable(program: Program, moving: tuple[Role, ...]) -> list[fx.Node]:
    """The calls that depend on no input of the roles `moving`, in order."""
    changing = descendants(program.inputs_of(*moving))
    # A size of a moving input is no value, but reading it needs the input.
    todo = [n for n in program.graph.find_nodes(op="call_function", target=aten.sym_size.int) if n.args[0] in changing]
    while todo:
        node = todo.pop()
        if node not in changing:
            changing.add(node)
            todo.extend(node.users)
    return [node for node in program.calls() if node not in changing]


def fixed_values(program: Program) -> set[fx.Node]:
    """The weights, the inputs that are no new ones in every call, and the calls that depend on them alone."""
    moving = set(program.inputs_of(*MOVING))
    inputs = [node for node in program.graph.nodes if node.op in ("placeholder", "get_attr") and node not in moving]
    return {*inputs, *hoistable(program, MOVING)}


def require_order(program: Program, asker: str) -> None:
    """Raise `PreconditionError` when there is a call that `HoistConditioning` would move."""
    fixed = set(hoistable(program, MOVING))
    behind = dropwhile(lambda node: node in fixed, program.calls())
    late = next((node for node in behind if node in fixed), None)
    if late is not None:
        raise PreconditionError(
            f"{asker} puts calls ahead of the blocks, but {late.name}, which they read, stands among the blocks.\n"
            "  Run HoistConditioning first."
        )


def _free_sizes(program: Program) -> int:
    """Read every size from a conditioning input where one has it."""
    known: dict[str, tuple[fx.Node, int]] = {}
    for node in program.inputs_of("timestep", "conditioning"):
        tensor = tensor_of(node)
        for dim, size in enumerate(tensor.shape if tensor is not None else ()):
            if not isinstance(size, int):
                known.setdefault(str(size), (node, dim))
    fixed = set(program.inputs_of("timestep", "conditioning"))
    count = 0
    for node in list(program.graph.find_nodes(op="call_function", target=aten.sym_size.int)):
        source = known.get(str(node.meta["val"]))
        if source is None or node.args[0] in fixed:
            continue
        new = insert_before(node, aten.sym_size.int, *source)
        replace_uses(node, new)
        program.graph.erase_node(node)
        count += 1
    return count
