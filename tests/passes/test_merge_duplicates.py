from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from fouriercache.passes.merge_duplicates import MergeDuplicates, is_pure
from fouriercache.testing import check_pass, trace

aten = torch.ops.aten
X = torch.randn(2, 4, 8, generator=torch.Generator().manual_seed(0))


def holds(before, expected, rewrites: int) -> bool:
    return check_pass(MergeDuplicates(), trace(before, X), X, rewrites=rewrites) == trace(expected, X).text()


def is_kept(fn, *inputs: torch.Tensor) -> bool:
    program = trace(fn, *(inputs or (X,)))
    text = program.text()
    return MergeDuplicates().apply(program, check=True) == 0 and program.text() == text


def test_merges_equal_calls():
    def expected(x):
        y = x.sin()
        return (y + y,)

    assert holds(lambda x: (x.sin() + x.sin(),), expected, rewrites=1)


def test_merges_calls_that_become_equal_by_a_merge():
    def expected(x):
        y = x.sin().exp()
        return (y * y,)

    assert holds(lambda x: (x.sin().exp() * x.sin().exp(),), expected, rewrites=2)


def test_merges_two_reads_of_one_weight():
    shared = nn.Linear(8, 8)

    def expected(x):
        y = shared(x)
        return (y + y,)

    # weight, bias, linear
    assert holds(lambda x: (shared(x) + shared(x),), expected, rewrites=3)


def test_merges_attention_without_dropout():
    def expected(x):
        y = F.scaled_dot_product_attention(x, x, x)
        return (y + y,)

    assert holds(
        lambda x: (F.scaled_dot_product_attention(x, x, x) + F.scaled_dot_product_attention(x, x, x),),
        expected,
        rewrites=1,
    )


@pytest.mark.parametrize(
    "draw",
    [
        torch.rand_like,
        torch.bernoulli,
        lambda x: F.dropout(x, 0.5, training=True),
        lambda x: F.scaled_dot_product_attention(x, x, x, dropout_p=0.5),
    ],
    ids=["rand", "bernoulli", "dropout", "attention with dropout"],
)
def test_keeps_calls_that_draw_random_numbers(draw):
    assert is_kept(lambda x: (draw(x) + draw(x),), X.sigmoid())


def test_keeps_calls_that_write_to_their_arguments():
    def fn(x):
        y = x + 1
        y.add_(1)
        y.add_(1)
        return (y,)

    assert is_kept(fn)


def test_keeps_calls_that_read_what_is_written_in_between():
    def fn(x):
        y = x + 1
        before = y[0].sin()
        y.view(-1).mul_(2)
        return before, y[0].sin()

    assert is_kept(fn)


def test_keeps_calls_that_differ_in_any_argument():
    def fn(x):
        return x.sum(1), x.sum(2), x * 1, x * 1.0, F.gelu(x), F.gelu(x, approximate="tanh")

    assert is_kept(fn)


def test_tells_numbers_from_flags():
    # Python says True == 1; ATen computes another dtype.
    assert is_kept(lambda x: (aten.mul(x, 1), aten.mul(x, True)), torch.arange(3))


@pytest.mark.parametrize(
    ("fn", "pure"),
    [
        (lambda x: F.dropout(x, 0.5, training=False), True),
        (lambda x: F.dropout(x, 0.0, training=True), True),
        (lambda x: F.dropout(x, 0.5, training=True), False),
        (lambda x: aten._scaled_dot_product_flash_attention_for_cpu(x[None], x[None], x[None])[0], True),
        (lambda x: aten._scaled_dot_product_flash_attention_for_cpu(x[None], x[None], x[None], 0.5)[0], False),
        (lambda x: torch.randn_like(x), False),
        (lambda x: (x + 1).add_(1), False),
    ],
)
def test_purity_is_read_from_arguments_not_from_tags_alone(fn, pure: bool):
    assert all(map(is_pure, trace(fn, X).calls())) is pure


@settings(max_examples=20, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 30)), min_size=1, max_size=12))
def test_leaves_one_call_for_each_different_value(calls: list[tuple[int, int]]):
    targets = (torch.sin, torch.cos, lambda x: x * 2)

    def before(x):
        values = [x]
        for which, source in calls:
            values.append(targets[which](values[source % len(values)]))
        return tuple(values[1:])

    # What a value is, spelled out from the input: equal spellings are equal values.
    spelled = ["x"]
    for which, source in calls:
        spelled.append(f"{which}({spelled[source % len(spelled)]})")
    check_pass(MergeDuplicates(), trace(before, X), X, rewrites=len(calls) - len(set(spelled[1:])))
