from __future__ import annotations

import pytest
import torch

from fouriercache.errors import PreconditionError
from fouriercache.passes.insert_cache import InsertCache
from fouriercache.passes.insert_gate import InsertGate
from fouriercache.passes.insert_predictor import InsertPredictor
from fouriercache.program import Program
from fouriercache.testing import check_pass, feed
from tests.passes.stages import after, toy
from tests.passes.toys import TIMESTEP, X, gated, plain


def one_branch(block, x):
    return x + block.down(block.up(x))


def predicted(forward, *conditioning: torch.Tensor, site: str = "branch", depth: int = 1) -> Program:
    return after(toy(forward, *conditioning, depth=depth), InsertCache(site, 1), InsertPredictor())


def run(program: Program, refresh: bool, slots: list[torch.Tensor], **given: torch.Tensor) -> list[torch.Tensor]:
    """Run one step with coefficient 1."""
    given |= {f"slot_{position}_0": slot for position, slot in enumerate(slots)}
    filled = feed(program, {"x": X, "refresh": torch.tensor(refresh), "coefficients": torch.ones(1), **given})
    return list(program.module()(*filled))


def test_chooses_between_what_is_computed_and_what_is_predicted():
    text = check_pass(InsertGate(), predicted(one_branch), {"x": X}, rewrites=1)
    assert (
        text[: text.index("block sites")]
        == """\
main(%0: f32[2,6,8] x, %1: f32[2,6,8] slot_0_0 (slot), %2: f32[1] coefficients, %3: bool[] refresh)
  # blocks.0
  %4: f32[2,6,16] = linear.default(%0, @blocks.0.up.weight, @blocks.0.up.bias)
  %5: f32[2,6,8] = linear.default(%4, @blocks.0.down.weight, @blocks.0.down.bias)
  %6: f32[1,2,6,8] = fouriercache.cache_lookup([%1])
  %7: f32[2,6,8] = fouriercache.predict(%6, %2)
  %8: f32[2,6,8] = fouriercache.select(%3, %5, %7)
  %9: f32[2,6,8] = add.Tensor(%0, %8)
  return [%9, %5]

"""
    )


@pytest.mark.parametrize("site", ["branch", "block", "stack"])
def test_a_step_that_refreshes_computes_what_the_model_does(site: str):
    program = predicted(gated, TIMESTEP, site=site, depth=3)
    check_pass(InsertGate(), program, {"x": X, "condition": TIMESTEP}, rewrites=len(program.sites))


@pytest.mark.parametrize("site", ["branch", "block", "stack"])
def test_a_step_that_reuses_reads_the_slots_alone(site: str):
    program = after(predicted(plain, site=site, depth=2), InsertGate())
    slots = [torch.randn(X.shape, generator=torch.Generator().manual_seed(k)) for k in range(len(program.sites))]
    result, *_ = run(program, False, slots)
    # Every kind of site adds its slot to the stream.
    expected = X
    for slot in slots:
        expected = expected + slot
    assert torch.equal(result, expected)


def test_slots_receive_the_computed_value_whatever_is_chosen():
    program = after(predicted(one_branch, depth=1), InsertGate())
    zeros = [torch.zeros_like(X)]
    _, kept = run(program, True, zeros)
    _, also = run(program, False, zeros)
    assert kept.any()
    assert torch.equal(kept, also)


def test_keeps_a_program_that_has_a_gate():
    program = after(predicted(plain), InsertGate())
    assert check_pass(InsertGate(), program, {"x": X}, rewrites=0) == program.text()


def test_needs_predictions_to_choose_from():
    with pytest.raises(PreconditionError, match=r"InsertGate needs predictions(.|\n)*Run InsertPredictor first"):
        InsertGate().apply(after(toy(plain), InsertCache("branch", 1)))
