from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn.functional import linear

from fouriercache.passes.embed_last import EmbedLast
from fouriercache.program import Role
from fouriercache.testing import check_pass, trace

generator = torch.Generator().manual_seed(0)
X = torch.randn(2, 16, 3, generator=generator)
SLOT, OLDER = torch.randn(2, 2, 16, 8, generator=generator)
GATE = torch.randn(2, 1, 8, generator=generator)
weight = nn.Parameter(torch.randn(8, 3, generator=generator))
bias = nn.Parameter(torch.randn(8, generator=generator))
position = torch.randn(1, 16, 8, generator=generator)
slots: dict[str, Role] = {"x": "sample", "slot": "slot", "older": "slot", "gate": "conditioning"}

RTOL = 16 * 2**-23  # sums of a few float32 products, taken in another order


def program_of(fn, *inputs):
    names = fn.__code__.co_varnames[: fn.__code__.co_argcount]
    return trace(fn, *inputs, roles={name: slots[name] for name in names})


def test_the_updates_begin_with_bias_and_position_and_the_product_is_added_last():
    def before(x, slot, older, gate):
        stream = position + linear(x, weight, bias)
        return torch.addcmul(torch.addcmul(stream, gate, slot), gate, older).exp()

    def expected(x, slot, older, gate):
        matrix, start = weight.transpose(0, 1), position + bias
        total = torch.addcmul(torch.addcmul(start, gate, slot), gate, older)
        return torch.addmm(total.flatten(0, 1), x.flatten(0, 1), matrix).view(-1, 16, 8).exp()

    inputs = X, SLOT, OLDER, GATE
    text = check_pass(EmbedLast(), program_of(before, *inputs), inputs, rewrites=1, rtol=RTOL)
    assert text == program_of(expected, *inputs).text()


def test_a_stream_without_a_position_begins_with_the_bias():
    def before(x, slot):
        return linear(x, weight, bias) + slot

    text = check_pass(EmbedLast(), program_of(before, X, SLOT), (X, SLOT), rewrites=1, rtol=RTOL)
    assert "add.Tensor(@bias, %1)" in text
    assert "add.Tensor(%" not in text


def test_a_position_that_depends_on_the_conditioning_is_added_behind_it():
    def before(x, slot, gate):
        moved = gate.exp()
        return (linear(x, weight, bias) + moved + slot).exp()

    inputs = X, SLOT, GATE
    text = check_pass(EmbedLast(), program_of(before, *inputs), inputs, rewrites=1, rtol=RTOL)
    calls = [line.split(" = ")[1].split("(")[0] for line in text.splitlines() if " = " in line]
    assert calls[:3] == ["transpose.int", "exp.default", "add.Tensor"]


@pytest.mark.parametrize(
    ("fn", "reason"),
    [
        (lambda x, slot: (y := linear(x, weight, bias)) * (y + slot), None),
        (lambda x, slot: linear(x, weight) + slot, None),
        (lambda x, slot: slot + linear(x, weight, bias), None),  # a product with the slot in front is no update
        (lambda x, slot: linear(x, weight, bias) + position, None),
        (lambda x, slot: linear(x, weight, bias) + x.mean() + x.sum(), None),  # nothing of what is kept is added
        (lambda x, slot: linear(slot[..., :3], weight, bias) + slot, None),  # a layer behind the first update
        (lambda x, slot: linear(x, weight, bias).double() + slot, "summed in another precision"),
        (lambda x, slot: torch.add(linear(x, weight, bias), slot, alpha=2), None),
        (lambda x, slot: linear(x, weight, bias) + slot.double(), "another precision"),
        (lambda x, slot: linear(x, weight, bias) + slot[:, :1], "does not reach every token"),
        (lambda x, slot: linear(x, weight, bias) + position + slot[:1], "does not reach every token"),
        (lambda x, slot: (linear(x[0], weight, bias) + slot[0]).exp(), "not [batch, tokens, channels]"),
        (lambda x, slot: linear(x.transpose(0, 1), weight, bias) + slot.transpose(0, 1), "does not reach every token"),
    ],
)
def test_keeps_what_is_no_embedding_with_updates(fn, reason):
    program = program_of(fn, X, SLOT)
    assert check_pass(EmbedLast(), program, (X, SLOT), rewrites=0) == program.text()
    EmbedLast().apply(program)
    found = [why.reason for why in program.refused.get("EmbedLast", [])]
    assert len(found) == (reason is not None)
    assert reason is None or reason in found[0]
