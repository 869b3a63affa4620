"""The folded text: equal blocks once, and nothing of a program lost in it."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import fx, nn

from fouriercache.passes.base import Pipeline
from fouriercache.passes.specialize_step import SpecializeStep
from fouriercache.program import Program, tensor_of
from fouriercache.testing import trace
from fouriercache.testing.fold import Parts, fold_program
from tests import zoo
from tests.passes.stages import after, canonical_passes

X = torch.zeros(2, 8)


class Chain(nn.Module):
    """Blocks in a row, `calls[i](block, x, shared)` in the place of the i-th; `shared` is made before all."""

    def __init__(self, *calls: Any) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(nn.Linear(8, 8) for _ in calls)
        self.calls = calls

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        shared = x.exp()
        for block, call in zip(self.blocks, self.calls, strict=True):
            x = call(block, x, shared)
        return x.cos()


def plain(block, x, shared):
    return block(x)


def fold(*calls: Any) -> Parts:
    program = trace(Chain(*calls), X)
    for node in program.calls():
        stack = [name for name, _ in (node.meta.get("nn_module_stack") or {}).values()]
        node.meta["block"] = next((name for name in stack if name.startswith("blocks.")), "")
    return fold_program(program)


def titles(parts: Parts) -> list[str]:
    return [title.partition(":")[0] for title in parts]


def test_blocks_that_do_the_same_are_folded():
    parts = fold(plain, plain, plain, plain)
    assert titles(parts) == ["inputs", "outside#0", "blocks.0#0", "blocks.1-3#0", "outside#1", "returns"]
    (folded,) = (lines for title, lines in parts.items() if title.startswith("blocks.1-3"))
    assert folded == (
        "in0: f32[2,8] = previous#0 %0",
        "%0: f32[2,8] = linear.default(in0, @.weight, @.bias)",
    )
    assert parts["blocks.1-3#0: 3 x 1 launches, 256 FLOPs"] == folded


def test_a_block_that_does_otherwise_stands_alone():
    class Doubled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.blocks = nn.ModuleList(nn.Sequential(nn.Linear(8, 8), *([nn.Tanh()] * (i == 2))) for i in range(5))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            for block in self.blocks:
                x = block(x)
            return x

    program = trace(Doubled(), X)
    for node in program.calls():
        names = [name for name, _ in node.meta["nn_module_stack"].values()]
        node.meta["block"] = next(name for name in names if name.count(".") == 1)
    assert titles(fold_program(program)) == [
        "inputs", "blocks.0#0", "blocks.1#0", "blocks.2#0", "blocks.3#0", "blocks.4#0", "returns"
    ]  # fmt: skip


def test_weights_of_another_block_keep_their_path():
    chain = Chain(plain, plain)
    chain.blocks[1].weight = chain.blocks[0].weight
    program = trace(chain, X)
    for node in program.calls():
        stack = [name for name, _ in (node.meta.get("nn_module_stack") or {}).values()]
        node.meta["block"] = next((name for name in stack if name.startswith("blocks.")), "")
    text = " ".join(line for lines in fold_program(program).values() for line in lines)
    assert "linear.default(in0, @blocks.0.weight, @.bias)" in text


@pytest.fixture(scope="module")
def modes() -> list[Program]:
    """Both modes of a DiT of three blocks, cached at every branch with a history of two."""
    program = zoo.captured("dit", 3)
    Pipeline(canonical_passes("branch", 2)).apply(program)
    return [after(program, SpecializeStep(mode)) for mode in ("compute", "reuse")]


def changes(program: Program) -> Iterator[tuple[str, int, Any]]:
    """Every way to change one argument of one call: a number, or a value for an earlier one of the same type."""
    seen: list[fx.Node] = []
    for node in program.graph.nodes:
        if node.op == "call_function":
            for position, argument in enumerate(node.args):
                if isinstance(argument, int | float) and not isinstance(argument, bool):
                    yield node.name, position, argument + 1
                elif isinstance(argument, fx.Node) and argument.op == "call_function":
                    yield from (
                        (node.name, position, other)
                        for other in seen[-40::7]
                        if other is not argument and kind(other) is not None and kind(other) == kind(argument)
                    )
            seen.append(node)


def kind(node: fx.Node) -> Any:
    tensor = tensor_of(node)
    return None if tensor is None else (tensor.dtype, tuple(map(str, tensor.shape)))


@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_no_change_of_a_call_is_lost(data: st.DataObject, modes: list[Program]):
    program = data.draw(st.sampled_from(modes)).clone()
    name, position, value = data.draw(st.sampled_from(list(changes(program))))
    before = fold_program(program)
    node = program.named()[name]
    arguments = list(node.args)
    arguments[position] = program.named()[value.name] if isinstance(value, fx.Node) else value
    node.args = tuple(arguments)
    assert fold_program(program) != before


def test_names_of_nodes_are_not_in_the_text(modes: list[Program]):
    for program in modes:
        renamed = program.clone()
        for number, node in enumerate(renamed.calls()):
            node.name = f"some_other_name_{number}"
        assert fold_program(renamed) == fold_program(program)


def test_a_copy_has_the_same_text(modes: list[Program]):
    assert fold_program(copy.copy(modes[0]).clone()) == fold_program(modes[0])
