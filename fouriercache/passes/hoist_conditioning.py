"""Move what does not depend on the latents or the cache to the front of the graph, and cut the graph there."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import fx

from fouriercache.passes.base import Pass
from fouriercache.passes.edit import insert_before
from fouriercache.passes.match import descendants
from fouriercache.passes.remove_dead import RemoveDead
from fouriercache.program import Input, Output, Program, Role, tensor_of

aten = torch.ops.aten
MOVING: tuple[Role, ...] = ("sample", "slot", "coefficients", "refresh")
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
        node.replace_all_uses_with(new, propagate_meta=False)
        program.graph.erase_node(node)
        count += 1
    return count


def split(program: Program, moving: tuple[Role, ...]) -> tuple[Program, Program]:
    """Cut a program in two: what depends on no input of the roles `moving`, and the rest.

    The first returns every value of its own that the second reads; the second takes them as inputs of role "hoisted",
    in the same order. The second returns what `program` returns. Neither repeats a call of the other, but for views
    of weights, which stay where they are read so that they are never stale.
    """
    first, second = program.clone(), program.clone()
    weights = _weight_only(first)
    names = {node.name for node in hoistable(first, moving)} - weights
    nodes = first.named()
    border = [
        nodes[name]
        for name in (node.name for node in first.calls())
        if name in names and any(user.name not in names and user.name not in weights or user.op == "output" for user in nodes[name].users)
    ]
    border = [node for node in border if tensor_of(node) is not None]
    first.set_outputs(border, [Output(node.name, "hoisted") for node in border])
    _trim(first)
    mirror = second.named()
    last = second.placeholders[-1]
    declared = list(second.inputs)
    for node in border:
        old = mirror[node.name]
        with second.graph.inserting_after(last):
            new = second.graph.placeholder(f"hoisted_{node.name}")
        new.meta["val"] = node.meta["val"]
        old.replace_all_uses_with(new, propagate_meta=False)
        declared.append(Input(new.name, "hoisted"))
        last = new
    second.set_inputs(declared)
    _trim(second)
    return replace(first, sites=(), history=0), second


def _weight_only(program: Program) -> set[str]:
    """Names of the calls that show a part of a weight: cheap, and stale if kept."""
    found: set[str] = set()
    for node in program.calls():
        sources = node.all_input_nodes
        if node.target is aten.slice.Tensor and all(s.op == "get_attr" or s.name in found for s in sources):
            found.add(node.name)
    return found


def _trim(program: Program) -> None:
    """Drop what the results do not need, inputs included."""
    RemoveDead().rewrite(program)
    kept = []
    for node, given in zip(program.placeholders, program.inputs, strict=True):
        if node.users:
            kept.append(given)
        else:
            program.graph.erase_node(node)
    program.set_inputs(kept)
