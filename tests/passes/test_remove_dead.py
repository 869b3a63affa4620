from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from fouriercache.passes.remove_dead import RemoveDead
from fouriercache.program import Program
from fouriercache.testing import check_pass, trace

X = torch.randn(2, 4, 8, generator=torch.Generator().manual_seed(0))


def returning(program: Program, count: int) -> Program:
    """Return a copy of `program` that returns its first `count` results alone."""
    cut = program.clone()
    cut.set_outputs(cut.results[:count], cut.outputs[:count])
    return cut


def holds(before, expected, rewrites: int) -> bool:
    """Whether `before`, with its last result dropped, becomes `expected`."""
    program = trace(before, X)
    cut = returning(program, len(program.results) - 1)
    return check_pass(RemoveDead(), cut, X, rewrites=rewrites) == trace(expected, X).text()


def test_erases_what_no_result_depends_on():
    assert holds(lambda x: (x.cos(), x.sin().exp()), lambda x: (x.cos(),), rewrites=2)


def test_erases_attention_and_dropout_that_draw_nothing():
    def before(x):
        return x.cos(), F.dropout(F.scaled_dot_product_attention(x, x, x), 0.1, training=False)

    assert holds(before, lambda x: (x.cos(),), rewrites=2)


def test_forgets_weights_that_nothing_reads():
    model = nn.Linear(8, 8)
    cut = returning(trace(lambda x: (x.cos(), model(x)), X), 1)
    assert RemoveDead().apply(cut, check=True) == 3
    assert cut.attributes == {}
    assert cut.sources == {}


def test_keeps_random_numbers_that_nobody_reads():
    # Dropping one draw would shift every later one.
    program = returning(trace(lambda x: (x + torch.rand_like(x), torch.rand_like(x)), X), 1)
    assert RemoveDead().apply(program, check=True) == 0


def test_keeps_graph_inputs():
    program = returning(trace(lambda x, y: (x.sin(), y.sin()), X, X), 1)
    assert RemoveDead().apply(program, check=True) == 1
    assert [node.name for node in program.placeholders] == ["x", "y"]


def test_keeps_calls_that_write_to_their_arguments():
    def fn(x):
        y = x + 1
        y.add_(1)
        return (y.sin(),)

    program = trace(fn, X)
    assert check_pass(RemoveDead(), program, X, rewrites=0) == program.text()


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(0, 30), min_size=1, max_size=12), st.integers(0, 30))
def test_leaves_the_ancestors_of_the_result(sources: list[int], result: int):
    def before(x):
        values = [x]
        for position, source in enumerate(sources):
            values.append(values[source % len(values)] + position)
        return values[1 + result % len(sources)], *values[1:]

    wanted = 1 + result % len(sources)
    needed = set()
    while wanted:
        needed.add(wanted)
        wanted = sources[wanted - 1] % wanted
    cut = returning(trace(before, X), 1)
    check_pass(RemoveDead(), cut, X, rewrites=len(sources) - len(needed))
