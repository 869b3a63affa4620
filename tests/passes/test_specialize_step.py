from __future__ import annotations

import pytest
import torch

from fouriercache import ops
from fouriercache.errors import PreconditionError
from fouriercache.passes.insert_cache import InsertCache
from fouriercache.passes.insert_gate import InsertGate
from fouriercache.passes.insert_predictor import InsertPredictor
from fouriercache.passes.match import is_heavy
from fouriercache.passes.specialize_step import SpecializeStep
from fouriercache.program import Program
from fouriercache.testing import check_pass
from tests.passes.stages import after, toy
from tests.passes.toys import TIMESTEP, X, gated, plain

SLOTS = [torch.randn(X.shape, generator=torch.Generator().manual_seed(seed)) for seed in range(8)]


def one_branch(block, x):
    return x + block.down(block.up(x))


def canonical(forward, *conditioning: torch.Tensor, site: str = "branch", history: int = 1, depth: int = 1) -> Program:
    found = toy(forward, *conditioning, depth=depth)
    return after(found, InsertCache(site, history), InsertPredictor(), InsertGate())


def step(program: Program, refresh: bool, **given: torch.Tensor) -> dict[str, torch.Tensor]:
    """Inputs of one step: slots of noise, coefficients that are not 1."""
    names = [wanted.name for wanted in program.inputs if wanted.role == "slot"]
    coefficients = torch.arange(1.0, program.history + 1) / 3
    return dict(zip(names, SLOTS, strict=False)) | {
        "x": X,
        "refresh": torch.tensor(refresh),
        "coefficients": coefficients,
        **given,
    }


def test_a_computed_step_needs_no_history():
    program = canonical(one_branch)
    text = check_pass(SpecializeStep("compute"), program, step(program, True), rewrites=1)
    assert (
        text[: text.index("block sites")]
        == """\
main(%0: f32[2,6,8] x)
  # blocks.0
  %1: f32[2,6,16] = linear.default(%0, @blocks.0.up.weight, @blocks.0.up.bias)
  %2: f32[2,6,8] = linear.default(%1, @blocks.0.down.weight, @blocks.0.down.bias)
  %3: f32[2,6,8] = add.Tensor(%0, %2)
  return [%3, %2]

"""
    )


def test_a_reuse_step_needs_no_branch():
    program = canonical(one_branch, history=2)
    text = check_pass(SpecializeStep("reuse"), program, step(program, False), rewrites=1)
    assert (
        text[: text.index("block sites")]
        == """\
main(%0: f32[2,6,8] x, %1: f32[2,6,8] slot_0_0 (slot), %2: f32[2,6,8] slot_0_1 (slot), %3: f32[2] coefficients)
  # blocks.0
  %4: f32[2,2,6,8] = fouriercache.cache_lookup([%1, %2])
  %5: f32[2,6,8] = fouriercache.predict(%4, %3)
  %6: f32[2,6,8] = add.Tensor(%0, %5)
  return [%6]

"""
    )


@pytest.mark.parametrize("site", ["branch", "block", "stack"])
@pytest.mark.parametrize("mode", ["compute", "reuse"])
def test_gives_what_the_canonical_program_gives(site: str, mode):
    program = canonical(gated, TIMESTEP, site=site, history=2, depth=2)
    given = step(program, mode == "compute", condition=TIMESTEP)
    check_pass(SpecializeStep(mode), program, given, rewrites=len(program.sites))


@pytest.mark.parametrize("site", ["branch", "block", "stack"])
def test_no_matrix_product_of_a_branch_survives_reuse(site: str):
    program = after(canonical(plain, site=site, depth=2), SpecializeStep("reuse"))
    assert not is_heavy(program.calls())
    assert all(not name.startswith("blocks") for name in program.sources.values())


def test_a_reuse_step_returns_no_slots_and_a_computed_step_one_for_each_site():
    program = canonical(plain, depth=2)
    roles = {
        mode: [output.role for output in after(program, SpecializeStep(mode)).outputs] for mode in ("compute", "reuse")
    }
    assert roles == {"compute": ["result"] + ["slot"] * 4, "reuse": ["result"]}


def test_keeps_a_program_without_select_nodes():
    program = after(canonical(plain), SpecializeStep("reuse"))
    given = step(program, False)
    assert check_pass(SpecializeStep("compute"), program, given, rewrites=0) == program.text()
    assert not program.graph.find_nodes(op="call_function", target=ops.select)


def test_needs_a_program_with_a_cache():
    with pytest.raises(
        PreconditionError, match=r"SpecializeStep needs a program with a cache(.|\n)*InsertCache to InsertG"
    ):
        SpecializeStep().apply(toy(plain))
