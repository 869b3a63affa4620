from __future__ import annotations

import pytest
import torch

from fouriercache.passes.sum_updates import SumUpdates
from fouriercache.program import Role
from fouriercache.testing import check_pass, trace

generator = torch.Generator().manual_seed(0)
X, SLOT, OLDER = torch.randn(3, 2, 4, 8, generator=generator)
GATE = torch.randn(2, 1, 8, generator=generator)
ROLES: dict[str, Role] = {"x": "sample", "slot": "slot", "older": "slot", "gate": "hoisted"}
RTOL = 16 * 2**-23  # sums of a few float32 products, taken in another order


def program_of(fn, *inputs):
    names = fn.__code__.co_varnames[: fn.__code__.co_argcount]
    return trace(fn, *inputs, roles={name: ROLES[name] for name in names})


def test_updates_are_summed_by_themselves_and_the_stream_is_added_last():
    def before(x, slot, older, gate):
        return torch.addcmul(torch.addcmul(x.sin(), gate, slot), gate, older).exp()

    def expected(x, slot, older, gate):
        stream = x.sin()
        return (stream + torch.addcmul(gate * slot, gate, older)).exp()

    inputs = X, SLOT, OLDER, GATE
    text = check_pass(SumUpdates(), program_of(before, *inputs), inputs, rewrites=1, rtol=RTOL)
    assert text == program_of(expected, *inputs).text()


def test_a_first_update_without_a_gate_is_the_first_summand_itself():
    def before(x, slot, older, gate):
        return torch.addcmul(x + slot, gate, older)

    inputs = X, SLOT, OLDER, GATE
    text = check_pass(SumUpdates(), program_of(before, *inputs), inputs, rewrites=1, rtol=RTOL)
    assert "addcmul.default(%1, %3, %2)" in text


@pytest.mark.parametrize("is_gated", [False, True])
def test_half_precision_is_summed_in_the_precision_of_the_stream(is_gated):
    def before(x, slot, older, gate):
        scale = gate if is_gated else gate[0, 0, 0]
        stream = torch.addcmul(torch.addcmul(x.float(), slot, scale), older, scale)
        return stream.bfloat16()

    inputs = X.bfloat16(), SLOT.bfloat16(), OLDER.bfloat16(), GATE
    program = program_of(before, *inputs)
    text = check_pass(SumUpdates(), program, inputs, rewrites=1, rtol=2**-7)
    assert "mul.Tensor" in text
    assert text.count("bf16[2,4,8] = ") == 1  # the result alone is rounded


def test_rows_with_something_between_them_are_summed_each_by_itself():
    def before(x, slot, older, gate):
        first = torch.addcmul(torch.addcmul(x, gate, slot), gate, older).tanh()
        return first + slot + older

    inputs = X, SLOT, OLDER, GATE
    text = check_pass(SumUpdates(), program_of(before, *inputs), inputs, rewrites=2, rtol=RTOL)
    assert text.count("addcmul") == 1


@pytest.mark.parametrize(
    ("fn", "reason"),
    [
        (lambda x, slot, older: x + slot, None),
        (lambda x, slot, older: x + slot + x.sin(), None),
        (lambda x, slot, older: (y := x + slot) * (y + older), None),  # what stands between is read elsewhere
        (lambda x, slot, older: slot + x.exp() + older, None),  # the latents are added, not added to
        (lambda x, slot, older: slot.exp() + older + slot, None),  # no latents at all
        (lambda x, slot, older: torch.add(x + slot, older, alpha=2), None),
        (lambda x, slot, older: x + slot[:, :1] + older, "does not reach every token"),
        (lambda x, slot, older: x[:, :1] + slot + older, "another precision or shape"),
        (lambda x, slot, older: x + slot.double() + older, "another precision or shape"),
    ],
)
def test_keeps_what_is_no_row_of_updates(fn, reason):
    program = program_of(fn, X, SLOT, OLDER)
    assert check_pass(SumUpdates(), program, (X, SLOT, OLDER), rewrites=0) == program.text()
    SumUpdates().apply(program)
    found = [why.reason for why in program.refused.get("SumUpdates", [])]
    assert len(found) == (reason is not None)
    assert reason is None or reason in found[0]
