from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from fouriercache.passes.remove_noops import RemoveNoops
from fouriercache.testing import check_pass, trace

aten = torch.ops.aten
X = torch.randn(2, 8, generator=torch.Generator().manual_seed(0))


def holds(before, expected, *inputs: torch.Tensor, rewrites: int) -> bool:
    given = inputs or (X,)
    return check_pass(RemoveNoops(), trace(before, *given), given, rewrites=rewrites) == trace(expected, *given).text()


def is_kept(fn, *inputs: torch.Tensor) -> bool:
    return holds(fn, fn, *inputs, rewrites=0)


def test_removes_what_the_docstring_says():
    def before(x):
        x = F.dropout(x, 0.1, training=False)
        return (aten.slice(x * 1, 0, 0, 2**63 - 1).exp(),)

    assert holds(before, lambda x: (x.exp(),), rewrites=3)


def test_removes_a_metadata_assert():
    def before(x):
        aten._assert_tensor_metadata(x, dtype=torch.float32)
        return (x + 1,)

    assert holds(before, lambda x: (x + 1,), rewrites=1)


def test_removes_casts_to_the_type_a_value_has():
    def before(x):
        y = aten.to.dtype(x + 1, torch.float32)
        y = aten._to_copy(y, dtype=torch.float32)
        return (aten.to.device(aten.type_as(y, x), "cpu", torch.float32) * 2,)

    assert holds(before, lambda x: ((x + 1) * 2,), rewrites=4)


def test_removes_dropout_with_probability_zero():
    assert holds(lambda x: (F.dropout(x, 0.0, training=True) + 1,), lambda x: (x + 1,), rewrites=1)


def test_removes_division_by_one():
    assert holds(lambda x: ((x / 1).exp(),), lambda x: (x.exp(),), rewrites=1)


def test_removes_a_slice_that_ends_behind_the_last_index():
    assert holds(lambda x: (aten.slice(x, 1, 0, 9) + 1,), lambda x: (x + 1,), rewrites=1)


def test_removes_a_copy_with_the_same_strides():
    assert holds(lambda x: (x.clone().exp(),), lambda x: (x.exp(),), rewrites=1)


def test_keeps_a_copy_that_changes_strides():
    assert is_kept(lambda x: (x[:, :4].clone().exp(), x.t().clone(memory_format=torch.contiguous_format).exp()))


def test_keeps_a_copy_in_a_graph_that_writes():
    def fn(x):
        y = x + 1
        old = y.clone()
        y.mul_(2)
        return (old + y,)

    assert is_kept(fn)


def test_keeps_a_cast_that_changes_dtype():
    assert is_kept(lambda x: (x.to(torch.float64) + 1,))


def test_keeps_a_cast_that_asks_for_a_copy():
    assert is_kept(lambda x: (aten.to.dtype(x + 1, torch.float32, False, True) * 2,))


def test_keeps_dropout_that_is_on():
    program = trace(lambda x: (F.dropout(x, 0.1, training=True) + 1,), X)
    before = program.text()
    assert RemoveNoops().apply(program, check=True) == 0
    assert program.text() == before


def test_keeps_a_slice_that_cuts_or_steps():
    assert is_kept(lambda x: (aten.slice(x, 1, 0, 7).exp(), aten.slice(x, 1, 1, 8).exp(), x[:, ::2].exp()))


def test_keeps_a_call_whose_removal_would_return_an_input():
    assert is_kept(lambda x: (x * 1,))
    assert is_kept(lambda x: (aten.to.dtype(x, torch.float32),))


def test_keeps_a_call_whose_removal_would_return_a_view_of_an_input():
    assert is_kept(lambda x: ((x.view(4, 4) * 1).t(),))


def test_keeps_a_call_whose_removal_would_return_a_weight():
    assert is_kept(lambda x: (x + 1, X * 1))


def test_keeps_a_call_whose_removal_would_return_a_value_twice():
    def fn(x):
        y = x.exp()
        return y, y.clone(), y * 1

    assert is_kept(fn)


def test_of_two_calls_on_the_way_from_input_to_output_one_stays():
    assert holds(lambda x: (x * 1 * 1,), lambda x: (x * 1,), rewrites=1)


def test_keeps_multiplication_by_one_that_changes_the_dtype():
    assert is_kept(lambda x: ((x * 1.0).exp(), (x / 1).exp()), torch.arange(3))


def test_keeps_multiplication_by_one_half():
    assert is_kept(lambda x: ((x * 0.5).exp(),))


def test_keeps_a_copy_that_makes_a_later_view_possible():
    assert is_kept(lambda x: ((x.expand(3, 2, 8) * 1).view(-1) + 1,))


NOOPS = (lambda x: x * 1, lambda x: x / 1, lambda x: aten.slice(x, 0, 0, 2), lambda x: aten.to.dtype(x, torch.float32))
WORK = (torch.sin, lambda x: x * 2, lambda x: x + 1)


@settings(max_examples=20, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.integers(0, 3)), max_size=12))
def test_removes_every_noop_between_two_calls_that_work(steps: list[tuple[bool, int]]):
    def before(x):
        x = x + 1
        for is_noop, which in steps:
            x = NOOPS[which](x) if is_noop else WORK[which % 3](x)
        return (x,)

    check_pass(RemoveNoops(), trace(before, X), X, rewrites=sum(is_noop for is_noop, _ in steps))
