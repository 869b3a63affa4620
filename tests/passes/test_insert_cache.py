from __future__ import annotations

import pytest
import torch

from fouriercache import ops
from fouriercache.errors import PreconditionError, UnsupportedModelError
from fouriercache.passes.find_sites import FindSites
from fouriercache.passes.insert_cache import InsertCache, find_lookups
from fouriercache.testing import check_pass, feed, trace
from tests.passes.stages import after, toy
from tests.passes.toys import TIMESTEP, X, gated, plain


def one_branch(block, x):
    return x + block.down(block.up(x))


def test_gives_a_branch_site_its_slots():
    text = check_pass(InsertCache("branch", 2), toy(one_branch), X, rewrites=1)
    assert (
        text[: text.index("block sites")]
        == """\
main(%0: f32[2,6,8] x, %1: f32[2,6,8] slot_0_0 (slot), %2: f32[2,6,8] slot_0_1 (slot))
  # blocks.0
  %3: f32[2,6,16] = linear.default(%0, @blocks.0.up.weight, @blocks.0.up.bias)
  %4: f32[2,6,8] = linear.default(%3, @blocks.0.down.weight, @blocks.0.down.bias)
  %5: f32[2,2,6,8] = fouriercache.cache_lookup([%1, %2])
  %6: f32[2,6,8] = add.Tensor(%0, %4)
  return [%6, %4]

"""
    )


def test_keeps_the_difference_at_a_residual_site():
    text = check_pass(InsertCache("block", 1), toy(one_branch), X, rewrites=1)
    assert (
        """\
  %4: f32[2,6,8] = add.Tensor(%0, %3)
  %5: f32[2,6,8] = sub.Tensor(%4, %0)
  %6: f32[1,2,6,8] = fouriercache.cache_lookup([%1])
  return [%4, %5]
"""
        in text
    )


@pytest.mark.parametrize(("site", "count"), [("branch", 6), ("block", 3), ("stack", 1)])
def test_slots_lie_by_site_newest_first(site: str, count: int):
    program = after(toy(gated, TIMESTEP, depth=3), InsertCache(site, 2))
    assert len(program.sites) == count
    assert [given.name for given in program.inputs if given.role == "slot"] == [
        f"slot_{position}_{k}" for position in range(count) for k in range(2)
    ]
    assert [output.name for output in program.outputs if output.role == "slot"] == [s.name for s in program.sites]
    for position, lookup in enumerate(find_lookups(program)):
        slots = [node.name for node in lookup.all_input_nodes]
        assert slots == [f"slot_{position}_0", f"slot_{position}_1"]


def test_returns_what_the_sites_hold():
    program = toy(plain)
    made = after(program, InsertCache("branch", 1))
    result, *new = made.module()(*feed(made, {"x": X}))
    attention, mlp = new
    assert torch.equal(result, X + attention + mlp)


def test_a_part_of_a_larger_tensor_is_copied_so_that_a_slot_does_not_hold_the_whole():
    def forward(block, x):
        first, second = block.up(block.attend(x)).chunk(2, -1)
        return x + first.sigmoid() * second.unsqueeze(1).squeeze(1)

    def cut(block, x):
        return x + block.up(block.attend(x)).chunk(2, -1)[1]

    whole, part = toy(forward), toy(cut)
    text = check_pass(InsertCache("branch", 1), part, X, rewrites=1)
    assert "clone.default" in text
    made = after(part, InsertCache("branch", 1))
    _, new = made.module()(*feed(made, {"x": X}))
    assert new.untyped_storage().nbytes() == new.numel() * new.element_size()
    assert "clone.default" not in check_pass(InsertCache("branch", 1), whole, X, rewrites=1)


def test_keeps_a_program_that_has_slots():
    program = after(toy(plain), InsertCache("branch", 1))
    assert check_pass(InsertCache("stack", 3), program, {"x": X}, rewrites=0) == program.text()


def test_needs_sites_to_give_slots_to():
    with pytest.raises(
        PreconditionError, match=r"InsertCache needs sites, found none in 1 calls(.|\n)*FindSites first"
    ):
        InsertCache().apply(trace(lambda x: x + 1, X))


def test_needs_a_kind_of_site_that_exists():
    with pytest.raises(PreconditionError, match=r"InsertCache\(site='layer'\): the sites are branch, block, stack"):
        InsertCache("layer").apply(toy(plain))


def test_says_which_other_sites_there_are():
    def forward(block, x):
        x = block.norm(x)
        return x + block.attend(x)

    program = toy(forward)
    with pytest.raises(
        UnsupportedModelError, match=r"no block site that can be proved(.|\n)*ends at(.|\n)*branch \(1\)"
    ):
        InsertCache("block").apply(program)


def test_a_missing_lookup_names_the_pass_that_is_missing():
    program = after(toy(plain), InsertCache("branch", 1))
    for node in list(program.graph.find_nodes(op="call_function", target=ops.cache_lookup)):
        program.graph.erase_node(node)
    with pytest.raises(PreconditionError, match=r"blocks.0.attention has no cache_lookup(.|\n)*InsertCache first"):
        find_lookups(program)


def test_a_second_find_changes_nothing_for_the_sites_in_use():
    program = after(toy(plain), InsertCache("branch", 1))
    assert "branch sites: 2 in use" in program.text()
    assert FindSites().apply(program) == 0
