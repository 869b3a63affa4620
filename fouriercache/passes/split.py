"""Cut a program in two where nothing that changes is needed yet."""

from __future__ import annotations

from dataclasses import replace

import torch

from fouriercache.passes.edit import insert_input, replace_uses
from fouriercache.passes.hoist_conditioning import hoistable
from fouriercache.passes.remove_dead import RemoveDead
from fouriercache.program import Output, Program, Role, tensor_of

aten = torch.ops.aten


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
        if name in names
        and any(
            (user.name not in names and user.name not in weights) or user.op == "output" for user in nodes[name].users
        )
    ]
    border = [node for node in border if tensor_of(node) is not None]
    first.set_outputs(border, [Output(node.name, "hoisted") for node in border])
    trim(first)
    mirror = second.named()
    for node in border:
        replace_uses(mirror[node.name], insert_input(second, f"hoisted_{node.name}", node.meta["val"], "hoisted"))
    trim(second)
    return replace(first, sites=(), history=0), second


def _weight_only(program: Program) -> set[str]:
    """Names of the calls that show a part of a weight: cheap, and stale if kept."""
    found: set[str] = set()
    for node in program.calls():
        sources = node.all_input_nodes
        if node.target is aten.slice.Tensor and all(s.op == "get_attr" or s.name in found for s in sources):
            found.add(node.name)
    return found


def trim(program: Program) -> None:
    """Drop what the outputs do not need, inputs included."""
    RemoveDead().rewrite(program)
    kept = []
    for node, given in zip(program.placeholders, program.inputs, strict=True):
        if node.users:
            kept.append(given)
        else:
            program.graph.erase_node(node)
    program.set_inputs(kept)
