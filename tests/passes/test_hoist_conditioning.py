"""HoistConditioning orders a graph; split cuts it. Both keep every value."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from fouriercache.capture import capture
from fouriercache.passes.hoist_conditioning import MOVING, HoistConditioning
from fouriercache.passes.split import split
from fouriercache.program import Program
from fouriercache.testing import check_pass, trace
from tests.zoo import build_dit

X, T, C = torch.randn(2, 8), torch.randn(2, 8), torch.randn(2, 8)


def run_parts(parts: list[Program], named: dict[str, Tensor]) -> tuple[Tensor, ...]:
    """Run programs one after the other; what one hoists, the next ones read."""
    known = dict(named)
    results: tuple[Tensor, ...] = ()
    for part in parts:
        results = part.module()(*[known[wanted.name] for wanted in part.inputs])
        known |= {f"hoisted_{output.name}": value for output, value in zip(part.outputs, results, strict=True)}
    return results


def test_moves_what_the_latents_do_not_reach_to_the_front() -> None:
    def before(x: Tensor, timestep: Tensor) -> Tensor:
        return x.sin() + timestep.cos()

    def expected(x: Tensor, timestep: Tensor) -> Tensor:
        condition = timestep.cos()
        return x.sin() + condition

    assert check_pass(HoistConditioning(), trace(before, X, T), [X, T], rewrites=1) == trace(expected, X, T).text()


def test_keeps_a_graph_that_is_in_order() -> None:
    def before(x: Tensor, timestep: Tensor) -> Tensor:
        return timestep.cos() + x.sin()

    check_pass(HoistConditioning(), trace(before, X, T), [X, T], rewrites=0)


def test_reads_the_batch_size_from_the_timestep() -> None:
    model, call = build_dit(1)
    program = capture(model.eval(), call).program
    HoistConditioning().apply(program, check=True)
    sizes = program.graph.find_nodes(op="call_function", target=torch.ops.aten.sym_size.int)
    sample = program.inputs_of("sample")[0]
    assert sizes
    assert all(node.args[0] is not sample for node in sizes)  # the timestep has the batch size too


def test_split_puts_every_call_in_one_part_and_keeps_the_results() -> None:
    def before(x: Tensor, timestep: Tensor, condition: Tensor) -> tuple[Tensor, Tensor]:
        embedding = condition.exp()
        modulation = timestep.cos() * embedding
        return x.sin() * modulation + embedding, x.cos()

    program = trace(before, X, T, C)
    still, moving = split(program, MOVING)
    context, timed = split(still, ("timestep",))
    for part in (context, timed, moving):
        part.verify()
    assert [[str(node.target) for node in part.calls()] for part in (context, timed, moving)] == [
        ["aten.exp.default"],
        ["aten.cos.default", "aten.mul.Tensor"],
        ["aten.sin.default", "aten.mul.Tensor", "aten.add.Tensor", "aten.cos.default"],
    ]
    want = program.module()(X, T, C)
    have = run_parts([context, timed, moving], {"x": X, "timestep": T, "condition": C})
    assert all(torch.equal(a, b) for a, b in zip(want, have, strict=True))


def test_split_leaves_a_view_of_a_weight_where_it_is_read() -> None:
    weight = torch.randn(4, 8)

    def before(x: Tensor, timestep: Tensor) -> Tensor:
        return torch.nn.functional.linear(x, weight[1:3]) + timestep[:, :2]

    still, moving = split(trace(before, X, T), MOVING)
    assert "slice.Tensor(@weight" in moving.text()
    assert "@weight" not in still.text()


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_hoisting_and_splitting_keep_the_values_of_any_graph(data: st.DataObject) -> None:
    choices = data.draw(st.lists(st.tuples(st.integers(0, 99), st.integers(0, 99)), min_size=1, max_size=8))
    reached: list[set[int]] = []

    def before(x: Tensor, timestep: Tensor, condition: Tensor) -> Tensor:
        values = [x, timestep, condition]
        reached[:] = [{0}, {1}, {2}]
        for one, other in choices:
            i, j = one % len(values), other % len(values)
            values.append(torch.tanh(values[i] + values[j]))
            reached.append(reached[i] | reached[j])
        return torch.stack(values[3:]).sum(0) + x

    program = trace(before, X, T, C)
    still = sum(2 for inputs in reached[3:] if 0 not in inputs)  # an add and a tanh each
    HoistConditioning().apply(program, check=True)
    order = [0 in _inputs_of(program, node.name) for node in program.calls()]
    assert order == sorted(order)
    assert order.count(False) >= still
    context_and_timed, moving = split(program, MOVING)
    have = run_parts([context_and_timed, moving], {"x": X, "timestep": T, "condition": C})
    assert torch.equal(have[0], before(X, T, C))


def _inputs_of(program: Program, name: str) -> set[int]:
    """Positions of the inputs that a node depends on, counted by walking up: not the pass's own code."""
    todo, seen = [program.named()[name]], set()
    while todo:
        node = todo.pop()
        seen.add(node)
        todo.extend(source for source in node.all_input_nodes if source not in seen)
    return {position for position, node in enumerate(program.placeholders) if node in seen}
