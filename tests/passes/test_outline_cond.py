from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import fx, nn

from fouriercache.errors import PreconditionError
from fouriercache.passes.fuse_update import FuseUpdate
from fouriercache.passes.insert_cache import InsertCache
from fouriercache.passes.insert_gate import InsertGate
from fouriercache.passes.insert_predictor import InsertPredictor
from fouriercache.passes.narrow_linear import NarrowLinear
from fouriercache.passes.outline_cond import OutlineCond
from fouriercache.passes.specialize_step import SpecializeStep
from fouriercache.program import Program
from fouriercache.testing import check_pass, compare, feed
from tests.passes.stages import after, toy
from tests.passes.toys import TIMESTEP, X, gated, plain

cond = torch.ops.higher_order.cond
SHARED = nn.Linear(8, 8)


def one_branch(block, x):
    return x + block.down(block.up(x))


def canonical(forward, *conditioning: torch.Tensor, site: str = "branch", history: int = 1, depth: int = 1) -> Program:
    found = toy(forward, *conditioning, depth=depth)
    return after(found, InsertCache(site, history), InsertPredictor(), InsertGate())


def step(program: Program, refresh: bool) -> dict[str, torch.Tensor]:
    """Inputs of one step: slots of noise, coefficients that are not 1."""
    generator = torch.Generator().manual_seed(0)
    slots = {given.name: torch.randn(X.shape, generator=generator) for given in program.inputs if given.role == "slot"}
    conditioning = {given.name: TIMESTEP for given in program.inputs if given.role == "conditioning"}
    coefficients = torch.arange(1.0, program.history + 1) / 3
    return {"x": X, "refresh": torch.tensor(refresh), "coefficients": coefficients, **slots, **conditioning}


def bodies(program: Program) -> dict[str, fx.GraphModule]:
    return {name: value for name, value in program.attributes.items() if isinstance(value, fx.GraphModule)}


def results(body: fx.GraphModule) -> list[fx.Node]:
    returned: Any = body.graph.output_node().args[0]
    return list(returned)


def test_turns_the_choice_into_one_cond():
    program = canonical(one_branch)
    text = check_pass(OutlineCond(), program, step(program, False), rewrites=1)
    assert (
        text[: text.index("block sites")]
        == """\
false_body(%0: f32[2,6,8], %1: f32[2,6,8], %2: f32[1], @blocks.0.up.weight: f32[16,8], @blocks.0.up.bias: f32[16], \
@blocks.0.down.weight: f32[8,16], @blocks.0.down.bias: f32[8])
  # blocks.0
  %3: f32[1,2,6,8] = fouriercache.cache_lookup([%1])
  %4: f32[2,6,8] = fouriercache.predict(%3, %2)
  %5: f32[2,6,8] = add.Tensor(%0, %4)
  %6: f32[2,6,8] = contiguous.default(%5)
  # outside the blocks
  %7: f32[2,6,8] = clone.default(%1, memory_format=torch.contiguous_format)
  return [%6, %7]

true_body(%0: f32[2,6,8], %1: f32[2,6,8], %2: f32[1], @blocks.0.up.weight: f32[16,8], @blocks.0.up.bias: f32[16], \
@blocks.0.down.weight: f32[8,16], @blocks.0.down.bias: f32[8])
  # blocks.0
  %3: f32[2,6,16] = linear.default(%0, @blocks.0.up.weight, @blocks.0.up.bias)
  %4: f32[2,6,8] = linear.default(%3, @blocks.0.down.weight, @blocks.0.down.bias)
  %5: f32[2,6,8] = add.Tensor(%0, %4)
  %6: f32[2,6,8] = contiguous.default(%5)
  %7: f32[2,6,8] = contiguous.default(%4)
  return [%6, %7]

main(%0: f32[2,6,8] x, %1: f32[2,6,8] slot_0_0 (slot), %2: f32[1] coefficients, %3: bool[] refresh)
  %4: (f32[2,6,8], f32[2,6,8]) = cond(%3, @true_body, @false_body, [%0, %1, %2, @blocks.0.up.weight, \
@blocks.0.up.bias, @blocks.0.down.weight, @blocks.0.down.bias])
  %5: f32[2,6,8] = getitem(%4, 0)
  %6: f32[2,6,8] = getitem(%4, 1)
  return [%5, %6]

"""
    )


@pytest.mark.parametrize("refresh", [True, False])
@pytest.mark.parametrize("site", ["branch", "block", "stack"])
def test_gives_what_the_specialised_graph_gives(site: str, refresh: bool):
    program = canonical(gated, TIMESTEP, site=site, history=2, depth=2)
    given = step(program, refresh)
    check_pass(OutlineCond(), program, given, rewrites=len(program.sites))
    specialised = after(program, SpecializeStep("compute" if refresh else "reuse"))
    compare(specialised, after(program, OutlineCond()), given)


def test_a_step_that_does_not_refresh_returns_copies_of_the_newest_slots():
    program = after(canonical(plain, history=3), OutlineCond())
    given = step(program, False)
    _, *kept = program.module()(*feed(program, given))
    for position, value in enumerate(kept):
        slot = given[f"slot_{position}_0"]
        assert torch.equal(value, slot)
        assert value.data_ptr() != slot.data_ptr()


def test_only_one_body_runs():
    program = after(canonical(one_branch), OutlineCond())
    given = step(program, False) | {"refresh": torch.tensor(True), "slot_0_0": torch.full_like(X, torch.nan)}
    result, kept = program.module()(*feed(program, given))
    assert not result.isnan().any()
    assert not kept.isnan().any()


def test_weights_are_operands_and_one_weight_is_one_operand():
    program = after(canonical(lambda _, x: x + SHARED(SHARED(x))), OutlineCond())
    (call,) = program.graph.find_nodes(op="call_function", target=cond)
    operands = call.args[3]
    assert len(set(operands)) == len(operands)
    weights = [program.attributes[node.target] for node in operands if node.op == "get_attr"]
    assert len({id(weight) for weight in weights}) == len(weights) == 2
    for body in bodies(program).values():
        assert not body.graph.find_nodes(op="get_attr")
        assert len(body.graph.find_nodes(op="placeholder")) == len(operands)


def test_results_share_no_memory_and_lie_contiguously():
    def transposed(block, x):
        return (x + block.attend(x)).mT.contiguous().mT

    program = after(canonical(transposed), OutlineCond())
    for refresh in (True, False):
        given = feed(program, step(program, refresh))
        returned = program.module()(*given)
        assert all(value.is_contiguous() for value in returned)
        pointers = [value.untyped_storage().data_ptr() for value in (*returned, *given)]
        assert len(set(pointers)) == len(pointers)


def test_a_result_that_is_also_a_slot_is_copied():
    def last(block, x):
        return x + block.down(block.up(x))

    program = canonical(last)
    # The site's value is what the program returns, twice.
    program.set_outputs([program.results[1], program.results[1]], program.outputs)
    made = after(program, OutlineCond())
    first, second = results(bodies(made)["true_body"])
    assert str(first.target) == "aten.contiguous.default"
    assert str(second.target) == "aten.clone.default"


@pytest.mark.parametrize("refresh", [True, False])
def test_passes_finish_the_bodies_as_they_finish_specialised_graphs(refresh: bool):
    program = canonical(gated, TIMESTEP, history=2)
    outlined = after(program, OutlineCond(reuse=(NarrowLinear(), FuseUpdate())))
    assert "addcmul" in outlined.text()
    passes = (SpecializeStep("compute"),) if refresh else (SpecializeStep("reuse"), NarrowLinear(), FuseUpdate())
    compare(after(program, *passes), outlined, step(program, refresh))


def test_torch_can_export_and_decompose_the_cond():
    program = after(canonical(gated, TIMESTEP), OutlineCond())
    with torch.no_grad():
        given = tuple(feed(program, step(program, True)))
        exported = torch.export.export(program.module(), given).run_decompositions()
        for refresh in (True, False):
            given = tuple(feed(program, step(program, refresh)))
            for want, have in zip(program.module()(*given), exported.module()(*given), strict=True):
                torch.testing.assert_close(have, want, rtol=1e-6, atol=1e-6)  # decomposed norms and attention


def test_a_weight_changed_in_place_takes_effect():
    program = after(canonical(one_branch), OutlineCond())
    module, given = program.module(), feed(program, step(program, True))
    (name,) = (name for name, source in program.sources.items() if source == "blocks.0.down.bias")
    with torch.no_grad():
        before, _ = module(*given)
        program.attributes[name].add_(1)
        after_change, _ = module(*given)
    assert torch.allclose(after_change, before + 1)


def test_keeps_a_program_without_select_nodes():
    program = after(canonical(plain), OutlineCond())
    assert check_pass(OutlineCond(), program, step(program, True), rewrites=0) == program.text()


def test_keeps_inputs_that_neither_body_reads():
    program = canonical(plain, history=2)
    for node in program.inputs_of("slot"):
        if node.name.endswith("_1"):
            (lookup,) = node.users
            lookup.args = ([lookup.args[0][0]],)  # type: ignore[index]
    program.history = 1
    made = after(program, OutlineCond())
    assert made.inputs == program.inputs
    unread = [node for node in made.placeholders if not node.users]
    assert [node.name for node in unread] == ["slot_0_1", "slot_1_1"]


def test_needs_an_input_to_branch_on():
    program = after(toy(plain), InsertCache(), InsertPredictor())
    with pytest.raises(PreconditionError, match=r"OutlineCond needs a `refresh` input(.|\n)*and InsertGate first"):
        OutlineCond().apply(program)
