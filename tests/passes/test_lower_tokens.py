from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fouriercache import ops
from fouriercache.passes.lower_tokens import LowerTokens
from fouriercache.program import Program
from fouriercache.testing import check_pass, trace

generator = torch.Generator().manual_seed(0)
X = torch.randn(2, 6, 8, generator=generator)
AGES = torch.arange(12).view(2, 6)
INDEX = torch.tensor([[5, 0, 3], [1, 2, 4]])


def is_kept(fn, *inputs: torch.Tensor) -> bool:
    program = trace(fn, *inputs)
    return check_pass(LowerTokens(), program, inputs, rewrites=0) == program.text()


def test_writes_the_choice_of_tokens_in_plain_aten():
    def before(x, index):
        chosen = ops.gather_tokens(x, index)
        return ops.scatter_tokens(x, index, chosen * 2)

    def expected(x, index):
        doubled = torch.gather(x, 1, index.view(2, 3, 1).expand(2, 3, 8)) * 2
        return torch.scatter(x, 1, index.view(2, 3, 1).expand(2, 3, 8), doubled)

    inputs = (X, INDEX)
    program = trace(before, *inputs)
    assert check_pass(LowerTokens(), program, inputs, rewrites=2) == trace(expected, *inputs).text()


def test_writes_values_without_channels_alike():
    def before(ages, index):
        return ops.scatter_tokens(ages + 1, index, torch.zeros_like(index))

    program = trace(before, AGES, INDEX)
    check_pass(LowerTokens(), program, (AGES, INDEX), rewrites=1)


def test_chosen_tokens_are_replaced_and_no_others():
    result = ops.scatter_tokens(X, INDEX, torch.zeros(2, 3, 8))
    for row in range(2):
        for token in range(6):
            expected = 0 if token in INDEX[row] else X[row, token]
            assert torch.equal(result[row, token], torch.as_tensor(expected).expand(8))
    assert torch.equal(ops.gather_tokens(X, INDEX)[1, 2], X[1, 4])
    assert torch.equal(ops.scatter_tokens(X, INDEX[:, :0], torch.zeros(2, 0, 8)), X)


def test_keeps_every_other_call():
    assert is_kept(lambda x, index: torch.gather(x, 1, index[..., None].expand(2, 3, 8)), X, INDEX)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 4), st.integers(0, 4))
def test_counts_every_choice(gathers: int, scatters: int):
    def many(x, index):
        found = [ops.gather_tokens(x, index) for _ in range(gathers)]
        found += [ops.scatter_tokens(x, index, x[:, :3]) for _ in range(scatters)]
        return (*found, x + 1)

    program: Program = trace(many, X, INDEX)
    check_pass(LowerTokens(), program, (X, INDEX), rewrites=gathers + scatters)
