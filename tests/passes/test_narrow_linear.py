from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.functional import linear

from fouriercache.passes.narrow_linear import NarrowLinear
from fouriercache.program import Program
from fouriercache.testing import check_pass, trace

aten = torch.ops.aten
GROUPS, SIZE = 6, 4
ROWS = GROUPS * SIZE
generator = torch.Generator().manual_seed(0)
X = torch.randn(2, 8, generator=generator)
weight = nn.Parameter(torch.randn(ROWS, 8, generator=generator))
bias = nn.Parameter(torch.randn(ROWS, generator=generator))

RTOL = 8 * 2**-23  # sums of 8 float32 products, taken in another order


def project(x):
    return linear(x, weight, bias)


def rows(x, start, stop):
    """What a narrow linear is."""
    return linear(x, weight[start:stop], bias[start:stop])


def holds(before, expected) -> bool:
    """Whether `before` becomes `expected`; slices of weights are spelled alike by Python and by the pass."""
    return check_pass(NarrowLinear(), trace(before, X), X, rewrites=1, rtol=RTOL) == trace(expected, X).text()


def is_kept(fn, *inputs: torch.Tensor) -> bool:
    program = trace(fn, *(inputs or (X,)))
    return check_pass(NarrowLinear(), program, inputs or (X,), rewrites=0) == program.text()


def refusals(fn) -> list[str]:
    program = trace(fn, X)
    NarrowLinear().apply(program)
    return [refusal.reason for refusal in program.refused.get("NarrowLinear", [])]


def test_reads_the_rows_of_the_gates_alone():
    def before(x):
        _, _, first, _, _, second = project(x).chunk(GROUPS, 1)
        return first.exp(), second

    def expected(x):
        first, second = rows(x, 8, 12), rows(x, 20, 24)
        return first.exp(), second

    assert holds(before, expected)


def test_adjacent_pieces_stay_one_linear():
    def before(x):
        pieces = project(x).split(SIZE, 1)
        return pieces[3].exp(), pieces[4].exp()

    def expected(x):
        both = rows(x, 12, 20)
        first, second = aten.slice(both, 1, 0, 4), aten.slice(both, 1, 4, 8)
        return first.exp(), second.exp()

    assert holds(before, expected)


def test_works_without_a_bias():
    assert holds(lambda x: (linear(x, weight)[:, 4:8].exp(),), lambda x: (linear(x, weight[4:8]).exp(),))


def test_looks_through_a_view_that_leaves_the_last_dimension_alone():
    assert holds(
        lambda x: (project(x).unsqueeze(1).view(1, 2, 1, ROWS)[..., 4:8].exp(),),
        lambda x: (rows(x, 4, 8).unsqueeze(1).view(1, 2, 1, SIZE).exp(),),
    )


@pytest.mark.parametrize(
    "regroup",
    [
        lambda x: x.reshape(2, GROUPS, -1),
        lambda x: x.view(2, GROUPS, SIZE),
        lambda x: x.unflatten(1, (GROUPS, SIZE)),
    ],
    ids=["reshape", "view", "unflatten"],
)
@pytest.mark.parametrize(
    "cut",
    [
        lambda x: x.chunk(GROUPS, 1)[2],
        lambda x: x.split([2, 1, 3], 1)[1],
        lambda x: aten.slice(x, 1, 2, 3),
        lambda x: x.unbind(1)[2],
        lambda x: x.select(1, -4),
    ],
    ids=["chunk", "split", "slice", "unbind", "select"],
)
def test_reads_pieces_of_a_regrouped_result(regroup, cut):
    program = trace(lambda x: (cut(regroup(project(x))).exp(),), X)
    text = check_pass(NarrowLinear(), program, X, rewrites=1, rtol=RTOL)
    assert "slice.Tensor(@weight, 0, 8, 12)" in text
    assert "f32[2,4] = linear.default" in text
    assert "24" not in text


def test_reads_a_piece_of_a_piece():
    def before(x):
        half = project(x).chunk(2, 1)[1].view(2, 3, SIZE)
        return (half.select(1, 1).exp(),)

    def expected(x):
        return (rows(x, 16, 20).view(2, 1, SIZE).select(1, 0).exp(),)

    assert holds(before, expected)


def test_a_weight_changed_in_place_takes_effect():
    layer = nn.Linear(8, ROWS)
    program = trace(lambda x: (layer(x)[:, 4:8],), X)
    NarrowLinear().apply(program)
    with torch.no_grad():
        layer.weight.mul_(3)
        (have,) = program.module()(X)
        torch.testing.assert_close(have, layer(X)[:, 4:8], rtol=RTOL, atol=RTOL)
    assert {id(value) for value in program.attributes.values()} == {id(layer.weight), id(layer.bias)}


def test_keeps_a_linear_whose_pieces_are_all_read():
    def fn(x):
        pieces = project(x).chunk(3, 1)
        return pieces[0] * pieces[1] * pieces[2]

    assert is_kept(fn)


def test_keeps_a_linear_that_is_read_whole():
    def fn(x):
        y = project(x)
        return y.exp(), y[:, :4]

    assert is_kept(fn)
    assert refusals(fn) == ["exp reads all of linear, beside those that read pieces"]


def test_a_linear_without_pieces_is_no_refusal():
    assert is_kept(lambda x: (project(x).exp(),))
    assert refusals(lambda x: (project(x).exp(),)) == []


def test_keeps_a_linear_that_is_a_result():
    assert is_kept(lambda x: (project(x),))


@pytest.mark.parametrize(
    "read",
    [
        lambda y: y[:1],
        lambda y: y[:, ::2],
        lambda y: y.view(2, GROUPS, SIZE)[..., 1:],
        lambda y: y.view(2, GROUPS, SIZE).mT[:, :, 1:3],
        lambda y: y.view(4, 3, SIZE)[1],
        lambda y: y.view(2, SIZE, GROUPS).chunk(2, 2)[0],
    ],
)
def test_keeps_a_linear_read_through_another_dimension_or_with_a_step(read):
    assert is_kept(lambda x: (read(project(x)).exp(),))


def test_keeps_pieces_cut_at_different_grains():
    def fn(x):
        y = project(x)
        return y.view(2, GROUPS, SIZE)[:, 1].exp(), y[:, 2:5].exp()

    assert is_kept(fn)
    assert refusals(fn) == ["the pieces of linear are cut at different grains"]


def unread(program: Program, keep: set[int]) -> Program:
    """Return only the results whose position is in `keep`."""
    program.set_outputs(
        [node for position, node in enumerate(program.results) if position in keep],
        [output for position, output in enumerate(program.outputs) if position in keep],
    )
    return program


@settings(max_examples=25, deadline=None)
@given(st.sets(st.integers(0, GROUPS - 1), min_size=1), st.sampled_from(["chunk", "view", "slice"]))
def test_one_linear_is_left_for_each_run_of_pieces(used: set[int], how: str):
    def before(x):
        y = project(x)
        if how == "chunk":
            return y.chunk(GROUPS, 1)
        if how == "view":
            return y.view(2, GROUPS, SIZE).unbind(1)
        return tuple(y[:, k * SIZE : (k + 1) * SIZE] for k in range(GROUPS))

    # Neighbours differ by as much as their positions among the used ones.
    runs = len({piece - position for position, piece in enumerate(sorted(used))})
    program = unread(trace(before, X), used)
    # A slice nobody reads is still a node; the pass does not wait for RemoveDead to see that.
    text = check_pass(NarrowLinear(), program, X, rewrites=int(len(used) < GROUPS), rtol=RTOL)
    assert text.count("linear.default") == runs
    read = sum(len(list(run)) for _, run in itertools.groupby(sorted(used)))
    assert read * SIZE == sum(
        int(line.split("f32[2,")[1].split("]")[0]) for line in text.splitlines() if "linear.d" in line
    )
