"""Graphs that write over what is not read again give the same to the bit, and touch nothing that is not theirs."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from fouriercache.reused_memory import write_in_place
from fouriercache.runtime.backend import backend_from_name
from fouriercache.testing import trace

X = torch.randn(3, 4, generator=torch.Generator().manual_seed(0))
Y = torch.randn(3, 4, generator=torch.Generator().manual_seed(1))


def written(fn: Callable[..., object], *inputs: Tensor) -> list[str]:
    """Run `fn` as it is and with writes in place, compare, and name the calls that write."""
    module = trace(fn, *inputs).module()
    before = [value.clone() for value in inputs]
    wanted = module(*before)
    count = write_in_place(module.graph)
    module.recompile()
    found = module(*before)
    assert all(torch.equal(a, b) and a.stride() == b.stride() for a, b in zip(wanted, found, strict=True))
    assert all(torch.equal(a, b) for a, b in zip(before, inputs, strict=True)), "an input was written over"
    names = [node.target.__name__ for node in module.graph.nodes if node.op == "call_function"]
    writing = [name for name in names if "_." in name or name.endswith(".out")]
    assert count == len(writing)
    return [name.split(".")[0] for name in writing]


def test_a_chain_of_sums_is_written_into_its_first_result():
    assert written(lambda x, y: ((x + y) * y + 1, x), X, Y) == ["mul_", "add_"]
    assert written(lambda x, y: torch.addcmul(torch.addcmul(x, x, y), y, y), X, Y) == ["addcmul_"]
    assert written(lambda x, y: torch.addmm((x + y)[:, :3].clone(), x, y.t()), X, Y) == ["addmm"]


def test_the_other_operand_serves_where_they_may_change_places():
    assert written(lambda x, y: y + (x * y), X, Y) == ["add_"]
    assert written(lambda x, y: y - (x * y), X, Y) == []


@pytest.mark.parametrize(
    "fn",
    [
        lambda x, y: x + 1,
        lambda x, y: x.view(4, 3) + 1,
        lambda x, y: ((z := x + y) * 2, z),  # is returned
        lambda x, y: ((z := x + y) * 2, z.exp()),  # is read later
        lambda x, y: (v := (z := x + y).view(4, 3), z * 2, v.exp())[1:],  # is read later through a view
        lambda x, y: (z := x + y) * z,
        lambda x, y: (z := x + y) * z[:1],  # reads what it would have written over
        lambda x, y: y.sum() * (x + y),  # a number that the first operand may be, and the second is read otherwise
        lambda x, y: (x + y)[:1].expand(3, 4) + y,  # more values than places
        lambda x, y: (x + y)[:, :1] * y,
        lambda x, y: x.exp() + 1,  # not known to be new memory
        lambda x, y: torch.mul((x > y).to(torch.int32), 1) * 1.5,  # another dtype
        lambda x, y: torch.dropout(x, 0.5, False) + 1,  # returns its argument
        lambda x, y: torch.einsum("ab->ba", x) + 1,  # a view of it
    ],
)
def test_what_is_read_again_or_given_is_left(fn):
    assert not written(lambda x, y: fn(x, y), X, Y)


def test_views_of_new_memory_are_written_into_once_nothing_else_is_read():
    assert written(lambda x, y: (x + y).view(4, 3) * 2, X, Y) == ["mul_"]
    assert written(lambda x, y: torch.einsum("ab->ba", x + y) * 2, X, Y) == ["mul_"]


STEPS: list[Callable[[Tensor, Tensor], Tensor]] = [
    lambda a, b: a + b,
    lambda a, b: a * b,
    lambda a, b: a - b,
    lambda a, b: torch.addcmul(a, b, b),
    lambda a, b: torch.addmm(a, b[:, :3], b[:3]),
    lambda a, b: a.t().contiguous().t(),
    lambda a, b: a.view(4, 3).view(3, 4) if a.is_contiguous() else a.clone(),
    lambda a, b: a[:2].sum(0) + b,
    lambda a, b: a.chunk(2)[0].mean() * b,
    lambda a, b: torch.where(a > b, a, b),
    lambda a, b: torch.nn.functional.silu(a),
    lambda a, b: torch.dropout(a, 0.5, False),
]


@given(
    st.lists(st.tuples(st.sampled_from(range(len(STEPS))), st.integers(0), st.integers(0)), min_size=3, max_size=14),
    st.lists(st.integers(0), min_size=1, max_size=3),
)
@settings(max_examples=25, deadline=None)
def test_any_graph_gives_the_same(steps, results):
    def fn(x: Tensor, y: Tensor) -> tuple[Tensor, ...]:
        values = [x, y]
        for step, first, second in steps:
            values.append(STEPS[step](values[first % len(values)], values[second % len(values)]))
        return (*(values[place % len(values)] + 0 for place in results), values[-1])

    written(fn, X, Y)


def test_gradients_are_asked_of_the_graph_as_it_was():
    def fn(x: Tensor, y: Tensor) -> Tensor:
        return (x * y) * (x + y) * y

    assert written(fn, X, Y)
    run = backend_from_name("eager").compile(trace(fn, X, Y).module(), ())
    x = X.clone().requires_grad_()
    with torch.enable_grad():
        (result,) = run(x, Y)
        result.sum().backward()
    assert x.grad is not None
    assert torch.allclose(x.grad, 2 * X * Y**2 + Y**3)
    with torch.no_grad():
        assert torch.equal(run(x, Y)[0], result)
