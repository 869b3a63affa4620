from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fouriercache import ops
from fouriercache.passes.lower_transforms import LowerTransforms
from fouriercache.spectral import grid_bases
from fouriercache.testing import check_pass, trace
from tests.passes.toys import X

ROUNDING = 2**-20  # sums of some products, in another order, float32
ROWS, COLUMNS = (matrix.float() for matrix in grid_bases((2, 3)))


def test_writes_one_product_for_each_axis():
    def before(x):
        return ops.fft_compress(x, [ROWS, COLUMNS], 0)

    def expected(x):
        rows = torch.matmul(ROWS, x.reshape(-1, 2, 24))
        return torch.matmul(COLUMNS, rows.reshape(-1, 3, 8)).reshape(-1, 6, 8)

    text = check_pass(LowerTransforms(), trace(before, X), X, rewrites=1, rtol=ROUNDING)
    assert text == trace(expected, X).text()


def test_lets_pass_what_stands_around_the_grid():
    square = grid_bases((2, 2), keep=0.25)
    matrices = [matrix.float() for matrix in square]

    def before(x):
        return ops.fft_expand(ops.fft_compress(x, matrices, 1), [m.T.contiguous() for m in matrices], 1)

    program = trace(before, X)
    check_pass(LowerTransforms(), program, X, rewrites=2, rtol=ROUNDING)
    LowerTransforms().apply(program)
    (found,) = program.module()(X)
    assert torch.equal(found[:, [0, 5]], X[:, [0, 5]])
    torch.testing.assert_close(found[:, 1:5], X[:, 1:5].mean(1, keepdim=True).expand(-1, 4, -1))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_transforms_half_precision_in_float32(dtype: torch.dtype):
    def before(x):
        return ops.fft_compress(x, [ROWS, COLUMNS], 0)

    text = check_pass(
        LowerTransforms(), trace(before, X.to(dtype)), X.to(dtype), rewrites=1, rtol=torch.finfo(dtype).eps
    )
    assert all("f32" in line for line in text.splitlines() if "matmul" in line)


@settings(deadline=None)  # the machine may be busy
@given(
    sizes=st.lists(st.integers(1, 5), min_size=1, max_size=3).map(tuple),
    keep=st.floats(0.05, 1.0),
    basis=st.sampled_from(["dct", "dft"]),
    count=st.integers(0, 3),
)
def test_every_transform_is_lowered_whatever_the_grid(sizes, keep, basis, count: int):
    matrices = [matrix.float() for matrix in grid_bases(sizes, basis, keep=keep)]
    back = [matrix.T.contiguous() for matrix in matrices]
    x = torch.randn(2, math.prod(sizes), 4, generator=torch.Generator().manual_seed(0))

    def before(x):
        for _ in range(count):
            x = ops.fft_expand(ops.fft_compress(x, matrices, 0), back, 0)
        return x.sin()

    text = check_pass(LowerTransforms(), trace(before, x), x, rewrites=2 * count, rtol=1e-4)
    assert text.count("matmul") == 2 * count * len(matrices)


def test_keeps_a_program_without_transforms():
    program = trace(lambda x: x.sin(), X)
    assert check_pass(LowerTransforms(), program, X, rewrites=0) == program.text()
