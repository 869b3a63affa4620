"""Cut a program in two where nothing that changes is needed yet."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Literal

import torch
from torch import fx

from fouriercache.passes.copies import copy_part
from fouriercache.passes.hoist_conditioning import hoistable
from fouriercache.passes.merge_duplicates import is_pure
from fouriercache.passes.remove_dead import RemoveDead
from fouriercache.program import Input, Output, Program, Role, tensor_of

aten = torch.ops.aten
_VIEWS = {aten.slice.Tensor, aten.flatten.using_ints, aten.transpose.int}


def split(
    program: Program, moving: tuple[Role, ...], role: Literal["hoisted", "ahead"] = "hoisted"
) -> tuple[Program, Program]:
    """Cut a program in two: what depends on no input of the roles `moving`, and the rest.

    The first returns every value of its own that the second reads; the second takes them as inputs of the role `role`,
    in the same order. The second returns what `program` returns. Neither repeats a call of the other, but for views
    of weights, which stay where they are read so that they are never stale.
    """
    weights = _weight_only(program)
    inside = {node for node in hoistable(program, moving) if node not in weights}
    border = dict.fromkeys(
        node
        for node in program.calls()
        if node in inside
        and tensor_of(node) is not None
        and any((user not in inside and user not in weights) or user.op == "output" for user in node.users)
    )
    outputs = tuple(Output(node.name, role) for node in border)
    first = copy_part(program, list(border), _needed(program, border, {}), outputs)
    needed = _needed(program, program.results, border)
    stops = {node: Input(f"{role}_{node.name}", role) for node in border if node in needed}
    second = copy_part(program, program.results, needed, program.outputs, stops)
    return replace(first, sites=(), history=0), second


def _needed(program: Program, results: Iterable[fx.Node], stops: Mapping[fx.Node, object]) -> set[fx.Node]:
    """What `results` and the calls that must not be dropped are made from, up to `stops`."""
    todo = [*results, *(node for node in program.calls() if not is_pure(node))]
    found: set[fx.Node] = set()
    while todo:
        node = todo.pop()
        if node not in found:
            found.add(node)
            todo += () if node in stops else node.all_input_nodes
    return found


def _weight_only(program: Program) -> set[fx.Node]:
    """The calls that show a weight otherwise: cheap, stale if kept, and a constant where they are exported."""
    found: set[fx.Node] = set()
    for node in program.calls():
        sources = node.all_input_nodes
        if node.target in _VIEWS and all(s.op == "get_attr" or s in found for s in sources):
            found.add(node)
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
