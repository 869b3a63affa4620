from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn.functional import linear

from fouriercache.passes.fold_modulation import FoldModulation
from fouriercache.testing import check_pass, trace

generator = torch.Generator().manual_seed(0)
X = torch.randn(2, 24, 8, generator=generator)
SCALE, SHIFT = torch.randn(2, 2, 1, 8, generator=generator)
INPUTS = X, SCALE, SHIFT
weight = nn.Parameter(torch.randn(3, 8, generator=generator))
wide = nn.Parameter(torch.randn(4, 8, generator=generator))
bias = nn.Parameter(torch.randn(3, generator=generator))

RTOL = 16 * 2**-23  # sums of 8 float32 products, rounded in another order


def test_shift_and_scale_go_into_the_weight_and_the_bias():
    def before(x, scale, shift):
        return linear(x * scale + shift, weight, bias)

    def expected(x, scale, shift):
        matrix = (scale * weight).transpose(1, 2)
        return torch.baddbmm(linear(shift, weight, bias), x, matrix)

    text = check_pass(FoldModulation(), trace(before, *INPUTS), INPUTS, rewrites=1, rtol=RTOL)
    assert text == trace(expected, *INPUTS).text()


def test_operands_in_the_other_order_and_no_bias():
    program = trace(lambda x, scale, shift: linear(shift.sin() + (1 + scale) * x, weight), *INPUTS)
    check_pass(FoldModulation(), program, INPUTS, rewrites=1, rtol=RTOL)


@pytest.mark.parametrize(
    ("fn", "reason"),
    [
        (lambda x, scale, shift: linear(x * scale, weight, bias), None),
        (lambda x, scale, shift: linear(x + shift, weight, bias), None),
        (lambda x, scale, shift: linear(x * 2 + shift, weight, bias), None),
        (lambda x, scale, shift: linear(x * x.mean(1, True) + shift, weight, bias), None),
        (lambda x, scale, shift: linear(torch.add(x * scale, shift, alpha=2), weight, bias), None),
        (lambda x, scale, shift: linear((y := x * scale + shift), weight, bias) + y.sum(), "read elsewhere"),
        (lambda x, scale, shift: linear((y := x * scale) + shift, weight, bias) + y.sum(), "read elsewhere"),
        (
            lambda x, scale, shift: linear(x * scale.half() + shift, weight, bias),
            "no tensors of the stream's precision",
        ),
        (lambda x, scale, shift: linear(x * scale[..., :1] + shift, weight, bias), "one row for each sample"),
        (lambda x, scale, shift: linear(x * scale[:1] + shift, weight, bias), "one row for each sample"),
        (lambda x, scale, shift: linear(x * scale.expand(2, 24, 8) + shift, weight, bias), "one row for each sample"),
        (lambda x, scale, shift: linear((x * scale + shift)[0] * scale[0] + shift[0], weight), "one row for each"),
        (lambda x, scale, shift: linear(x * scale + shift, wide), "are many, beside the tokens"),
        (lambda x, scale, shift: linear(x * scale + shift, weight[0]), "one row for each sample"),
    ],
)
def test_keeps_what_is_not_modulated_by_what_is_fixed(fn, reason):
    program = trace(fn, *INPUTS)
    assert check_pass(FoldModulation(), program, INPUTS, rewrites=0) == program.text()
    FoldModulation().apply(program)
    found = [why.reason for why in program.refused.get("FoldModulation", [])]
    assert len(found) == (reason is not None)
    assert reason is None or reason in found[0]


def test_a_batch_of_one_and_half_precision():
    one = [value[:1] for value in INPUTS]
    check_pass(
        FoldModulation(), trace(lambda x, s, t: linear(x * s + t, weight, bias), *one), one, rewrites=1, rtol=RTOL
    )
    half = [value.bfloat16() for value in INPUTS]
    narrow = weight.detach().bfloat16()
    program = trace(lambda x, s, t: linear(x * s + t, narrow), *half)
    check_pass(FoldModulation(), program, half, rewrites=1, rtol=16 * 2**-8)
