from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from fouriercache.errors import PreconditionError
from fouriercache.passes.expose_maps import ExposeMaps
from fouriercache.passes.find_sites import FindSites
from fouriercache.program import Program
from fouriercache.testing import check_pass, trace
from tests.passes.stages import after, toy
from tests.passes.toys import TEXT, Model, X

HEADS = 2
ROUNDING = 2**-20  # the sums of at most 8 products and 6 weights, taken in another order
FUSED = "scaled_dot_product_attention"
MASK = torch.tensor([[True, True, False]])


def heads(x: Tensor) -> Tensor:
    parted: Tensor = x.unflatten(-1, (HEADS, -1)).transpose(1, 2)
    return parted


def attends(**options):
    """A block of attention with heads, then an MLP."""

    def forward(block, x):
        q, k, v = map(heads, block.qkv(block.norm(x)).chunk(3, -1))
        x = x + F.scaled_dot_product_attention(q, k, v, **options).transpose(1, 2).flatten(2)
        return x + block.feed(x)

    return forward


def reads_text(block, x, text):
    """Self-attention, cross-attention with a mask, MLP."""
    q, k, v = map(heads, block.qkv(block.norm(x)).chunk(3, -1))
    x = x + F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
    _, k, v = map(heads, block.qkv(text).chunk(3, -1))
    x = x + F.scaled_dot_product_attention(heads(x), k, v, attn_mask=MASK).transpose(1, 2).flatten(2)
    return x + block.feed(x)


def exposed(program: Program, *given: Tensor, kinds=("self",), rewrites: int = 1) -> str:
    return check_pass(ExposeMaps(kinds), program, (X, *given), rewrites=rewrites, rtol=ROUNDING)


def test_writes_attention_with_its_map_in_the_open():
    text = exposed(toy(attends()), rewrites=1)
    assert FUSED not in text
    assert (
        """\
  %12: f32[2,2,6,4] = transpose.int(%11, 1, 2)
  %13: f32[2,2,6,4] = mul.Tensor(%8, 0.5)
  %14: f32[2,2,4,6] = transpose.int(%10, -2, -1)
  %15: f32[2,2,6,6] = matmul.default(%13, %14)
  %16: f32[2,2,6,6] = softmax.int(%15, -1)
  %17: f32[2,2,6,4] = matmul.default(%16, %12)
"""
        in text
    )


def test_writes_one_attention_a_block():
    assert exposed(toy(attends(), depth=3), rewrites=3).count("softmax.int") == 3


@pytest.mark.parametrize(("kind", "shape"), [("self", "f32[2,2,6,6]"), ("cross", "f32[2,2,6,3]")])
def test_writes_the_kind_that_is_asked_for_and_keeps_the_other(kind, shape: str):
    text = exposed(toy(reads_text, TEXT), TEXT, kinds=(kind,))
    (line,) = (line for line in text.splitlines() if "softmax.int" in line)
    assert shape in line
    assert text.count(FUSED) == 1
    assert FUSED not in exposed(toy(reads_text, TEXT), TEXT, kinds=("self", "cross"), rewrites=2)


@pytest.mark.parametrize("options", [{"scale": 0.3}, {"attn_mask": torch.randn(6, 6)}], ids=["scale", "mask"])
def test_keeps_scale_and_mask(options):
    exposed(toy(attends(**options)))


def test_keeps_attention_in_a_block_without_an_mlp_to_choose_tokens_of():
    def alone(block, x):
        q, k, v = map(heads, block.qkv(block.norm(x)).chunk(3, -1))
        return x + F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)

    program = toy(alone)
    assert exposed(program, rewrites=0) == program.text()


def test_keeps_attention_that_the_model_computes_with_a_softmax():
    def by_hand(block, x):
        q, k, v = map(heads, block.qkv(block.norm(x)).chunk(3, -1))
        x = x + ((q @ k.transpose(-2, -1) * 0.5).softmax(-1) @ v).transpose(1, 2).flatten(2)
        return x + block.feed(x)

    program = toy(by_hand)
    assert exposed(program, rewrites=0) == program.text()


def test_keeps_causal_attention_and_says_so():
    program = toy(attends(is_causal=True))
    assert exposed(program, rewrites=0) == program.text()
    ExposeMaps().apply(program)
    assert [refusal.reason for refusal in program.refused["ExposeMaps"]] == [
        "the attention is causal, grouped or drops out"
    ]


def test_half_precision_takes_the_softmax_in_float32():
    program = after(trace(Model(attends(), 1, bare=True).half(), X.half()), FindSites())
    text = check_pass(ExposeMaps(), program, X.half(), rewrites=1, rtol=2**-8)  # one rounding to half a product
    assert "f32[2,2,6,6] = softmax.int" in text


def test_needs_the_sites():
    with pytest.raises(PreconditionError, match=r"ExposeMaps needs(.|\n)*Run FindSites first"):
        ExposeMaps().apply(trace(Model(attends(), 1, bare=True), X))
