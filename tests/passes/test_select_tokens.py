from __future__ import annotations

from collections.abc import Mapping

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from fouriercache.errors import MethodError, PreconditionError, UnsupportedModelError
from fouriercache.passes.expose_maps import ExposeMaps
from fouriercache.passes.insert_cache import InsertCache
from fouriercache.passes.insert_gate import InsertGate
from fouriercache.passes.insert_predictor import InsertPredictor
from fouriercache.passes.select_tokens import SelectTokens
from fouriercache.passes.specialize_step import SpecializeStep
from fouriercache.program import Program, TokenGrid
from fouriercache.testing import check_pass, feed
from fouriercache.tokens import (
    Age,
    AttentionEntropy,
    AttentionReceived,
    FixedCounts,
    SpatialBonus,
    ToCaRatio,
    TokenNorm,
    TopK,
    Total,
)
from tests.passes.stages import after, toy
from tests.passes.test_expose_maps import attends, reads_text
from tests.passes.toys import TEXT, TIMESTEP, X, gated, plain

SLOT = torch.randn(X.shape, generator=torch.Generator().manual_seed(5))
NORM = TopK(TokenNorm(), FixedCounts((2,)))


def one_branch(block, x):
    return x + block.down(block.up(x))


def canonical(forward, *conditioning: Tensor, site: str = "branch", history: int = 1, depth: int = 1) -> Program:
    found = toy(forward, *conditioning, depth=depth)
    return after(found, InsertCache(site, history), InsertPredictor(), InsertGate())


def step(program: Program, given: Mapping[str, Tensor], mode: str = "partial", refreshed: tuple[int, ...] = ()):
    """Run one step mode with coefficient 1; return its outputs by name."""
    chosen = after(program, SpecializeStep(mode, refreshed))  # type: ignore[arg-type]
    values = chosen.module()(*feed(chosen, {"coefficients": torch.ones(1), **given}))
    return dict(zip([output.name for output in chosen.outputs], values, strict=True))


def test_ranks_gathers_computes_and_scatters():
    text = check_pass(SelectTokens(NORM), canonical(one_branch), {"x": X}, rewrites=1)
    assert (
        text[: text.index("block sites")]
        == """\
main(%0: f32[2,6,8] x, %1: f32[2,6,8] slot_0_0 (slot), %2: f32[1] coefficients, %3: bool[] refresh, %4: i64[2] ranks_0)
  # blocks.0
  %5: f32[2,6,16] = linear.default(%0, @blocks.0.up.weight, @blocks.0.up.bias)
  %6: f32[2,6,8] = linear.default(%5, @blocks.0.down.weight, @blocks.0.down.bias)
  %7: f32[1,2,6,8] = fouriercache.cache_lookup([%1])
  %8: f32[2,6,8] = fouriercache.predict(%7, %2)
  %9: f32[2,6,8] = to.dtype(%0, torch.float32)
  %10: f32[2,6] = linalg_vector_norm.default(%9, 2, [-1])
  %11: f32[2,1] = linalg_vector_norm.default(%10, 2.0, [1], True)
  %12: f32[2,1] = clamp_min.default(%11, 1e-12)
  %13: f32[2,6] = expand_as.default(%12, %10)
  %14: f32[2,6] = div.Tensor(%10, %13)
  %15: i64[2,6] = argsort.default(%14, -1, True)
  %16: i64[2,2] = index_select.default(%15, 1, %4)
  %17: f32[2,2,8] = fouriercache.gather_tokens(%0, %16)
  %18: f32[2,2,16] = linear.default(%17, @blocks.0.up.weight, @blocks.0.up.bias)
  %19: f32[2,2,8] = linear.default(%18, @blocks.0.down.weight, @blocks.0.down.bias)
  %20: f32[2,6,8] = fouriercache.scatter_tokens(%8, %16, %19)
  %21: f32[2,6,8] = fouriercache.select(%3, %6, %20)
  %22: f32[2,6,8] = add.Tensor(%0, %21)
  return [%22, %21]

"""
    )


def test_the_number_of_tokens_is_data_unless_it_never_changes():
    for tokens, size in ((NORM, "i64[2] ranks_0"), (TopK(TokenNorm(), ToCaRatio()), "i64[s0] ranks_0")):
        assert size in after(canonical(one_branch), SelectTokens(tokens)).text()


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 6))
def test_one_graph_serves_every_number_of_tokens(count: int):
    program = after(canonical(one_branch), SelectTokens(TopK(TokenNorm(), ToCaRatio())))
    found = step(program, {"x": X, "slot_0_0": SLOT, "ranks_0": torch.arange(count)})
    whole = step(program, {"x": X}, "compute")["blocks.0.mlp"]
    order = X.norm(dim=-1).argsort(dim=-1, descending=True)[:, :count]
    wanted = SLOT.clone()
    for row in range(2):
        wanted[row, order[row]] = whole[row, order[row]]
    torch.testing.assert_close(found["blocks.0.mlp"], wanted)
    torch.testing.assert_close(found["result_0"], X + wanted)


def test_ranks_may_be_any():
    program = after(canonical(one_branch), SelectTokens(NORM))
    last = step(program, {"x": X, "slot_0_0": SLOT, "ranks_0": torch.tensor([5, 4])})["blocks.0.mlp"]
    order = X.norm(dim=-1).argsort(dim=-1)[:, :2]
    changed = (last != SLOT).any(-1)
    assert [set(torch.nonzero(row)[:, 0].tolist()) for row in changed] == [set(row.tolist()) for row in order]


def test_modulated_branches_are_cut_with_their_modulation():
    program = after(canonical(gated, TIMESTEP), SelectTokens(TopK(TokenNorm(), 1.0)))
    assert len(program.inputs_of("control")) == 1
    given = {"x": X, "condition": TIMESTEP}
    computed = step(program, given, "compute")
    kept = {"slot_0_0": computed["blocks.0.attention"], "slot_1_0": SLOT, "ranks_1": torch.arange(6)}
    # every token afresh, from the same attention: what a computed step gives
    torch.testing.assert_close(step(program, given | kept)["result_0"], computed["result_0"])


def test_a_value_that_is_a_part_of_a_larger_one_is_kept_as_a_copy():
    def part(block, x):
        return x + block.qkv(x).chunk(3, -1)[1]

    program = after(canonical(part), SelectTokens(TopK(TokenNorm(), 1.0)))
    whole = step(program, {"x": X}, "compute")["blocks.0.mlp"]
    fresh = step(program, {"x": X, "slot_0_0": SLOT, "ranks_0": torch.arange(6)})["blocks.0.mlp"]
    torch.testing.assert_close(fresh, whole)


def test_ages_grow_but_for_chosen_tokens():
    program = after(canonical(one_branch), SelectTokens(TopK(Age(), FixedCounts((1,)))))
    start = step(program, {"x": X}, "compute")
    assert not start["age_0"].any()
    ages = torch.tensor([[0, 1, 2, 3, 4, 5], [9, 1, 1, 1, 1, 1]])
    given = {"x": X, "slot_0_0": SLOT, "age_0": ages, "ranks_0": torch.arange(1)}
    assert step(program, given)["age_0"].tolist() == [[1, 2, 3, 4, 5, 0], [0, 2, 2, 2, 2, 2]]
    assert step(program, given, "reuse")["age_0"].tolist() == (ages + 1).tolist()
    assert not step(program, given, refreshed=(0,))["age_0"].any()


def test_what_attention_received_is_state_until_attention_is_computed():
    program = after(toy(attends()), ExposeMaps(), InsertCache("branch", 1), InsertPredictor(), InsertGate())
    program = after(program, SelectTokens(TopK(AttentionReceived(), FixedCounts((2,)))))
    start = step(program, {"x": X}, "compute")
    received = start["attention_received_0_1"]
    torch.testing.assert_close(received.sum(1), torch.full((2,), 6.0))  # the rows of a softmax sum to 1
    kept = {"slot_0_0": SLOT, "slot_1_0": SLOT, "ranks_1": torch.arange(2)}
    low = torch.tensor([[0.0, 0, 0, 0, 2, 1], [2, 1, 0, 0, 0, 0]])
    found = step(program, {"x": X, "attention_received_0_1": low, **kept})
    assert "attention_received_0_1" not in found
    changed = (found["blocks.0.mlp"] != SLOT).any(-1)
    assert changed.tolist() == (low > 0).tolist()
    # attention alone computed: a new digest, which the choice of this very step reads
    fresh = step(program, {"x": X, "attention_received_0_1": low, **kept}, refreshed=(0,))
    torch.testing.assert_close(fresh["attention_received_0_1"], received)
    best = received.argsort(dim=-1, descending=True)[:, :2]
    assert (fresh["blocks.0.mlp"] != SLOT).any(-1).nonzero()[:, 1].tolist() == best.sort(-1).values.flatten().tolist()


def test_entropy_is_that_of_the_map_over_the_text():
    program = after(toy(reads_text, TEXT), ExposeMaps(("cross",)))
    program = after(program, InsertCache("branch", 1), InsertPredictor(), InsertGate())
    program = after(program, SelectTokens(TopK(AttentionEntropy(), 0.5)))
    entropy = step(program, {"x": X, "condition": TEXT}, "compute")["attention_entropy_0_2"]
    assert entropy.shape == (2, 6)
    assert (entropy > 0).all()
    assert (entropy <= torch.tensor(2.0).log() + 1e-5).all()  # the mask leaves two of three text tokens


def test_keeps_attention_and_says_so():
    program = canonical(plain)
    SelectTokens(NORM).apply(program)
    assert [node.name for node in program.inputs_of("control")] == ["ranks_1"]
    assert [refusal.reason for refusal in program.refused["SelectTokens"]] == [
        "blocks.0.attention: a site of kind attention mixes tokens"
    ]


def test_keeps_a_site_whose_grid_or_map_the_score_needs_and_the_graph_does_not_show():
    program = canonical(plain)
    program.grid = TokenGrid(1, 2, 2)
    with pytest.raises(UnsupportedModelError, match=r"6 tokens are not those of the grid"):
        SelectTokens(TopK(SpatialBonus(TokenNorm()), 0.5)).apply(program)
    with pytest.raises(UnsupportedModelError, match=r"blocks.0 has no cross-attention"):
        SelectTokens(TopK(AttentionEntropy(), 0.5)).apply(canonical(plain))
    with pytest.raises(UnsupportedModelError, match=r"no ExposeMaps has shown the attention map"):
        SelectTokens(TopK(AttentionReceived(), 0.5)).apply(canonical(attends()))


def test_keeps_a_site_of_which_no_token_is_to_be_computed():
    program = canonical(one_branch, depth=2)
    assert SelectTokens(TopK(TokenNorm(), FixedCounts((0, 3)))).apply(program) == 1
    assert [node.name for node in program.inputs_of("control")] == ["ranks_1"]
    assert "none of its 6 tokens is to be computed" in program.refused["SelectTokens"][0].reason


def test_keeps_a_program_that_has_chosen_tokens():
    program = after(canonical(one_branch), SelectTokens(NORM))
    assert check_pass(SelectTokens(NORM), program, {"x": X}, rewrites=0) == program.text()


def test_needs_predictions_to_write_into():
    with pytest.raises(PreconditionError, match=r"SelectTokens changes the prediction(.|\n)*Run InsertGate first"):
        SelectTokens().apply(after(toy(plain), InsertCache("branch", 1), InsertPredictor()))


def test_needs_a_history_of_one():
    with pytest.raises(PreconditionError, match=r"one kept value of a site, and 2 are kept"):
        SelectTokens().apply(canonical(plain, history=2))


def test_needs_a_grid_where_the_score_does():
    with pytest.raises(UnsupportedModelError, match=r"(?s)'spatial_bonus' needs the token grid.*grid=fc.TokenGrid"):
        SelectTokens(TopK(SpatialBonus(TokenNorm()), 0.5)).apply(canonical(plain))


def test_refuses_more_tokens_than_there_are():
    with pytest.raises(MethodError, match=r"(?s)asks for 7 tokens of a site that has 6.*at most 6"):
        SelectTokens(TopK(TokenNorm(), FixedCounts((7,)))).apply(canonical(plain))


@pytest.mark.parametrize("site", ["block", "stack"])
def test_refuses_sites_that_hold_attention(site: str):
    with pytest.raises(UnsupportedModelError, match=rf"(?s)no site of the model.*kind {site} mixes tokens.*tokens=All"):
        SelectTokens(NORM).apply(canonical(plain, site=site))


def test_refuses_a_model_whose_mlps_mix_tokens():
    def mixer(block, x):
        return x + F.gelu(block.up(x).transpose(1, 2) @ torch.ones(6, 6)).transpose(1, 2) @ torch.ones(16, 8)

    with pytest.raises(UnsupportedModelError, match=r"(?s)no site.*transpose.int gives"):
        SelectTokens(NORM).apply(canonical(mixer))


@settings(max_examples=15, deadline=None)
@given(st.lists(st.booleans(), min_size=1, max_size=3).filter(any))
def test_cuts_every_mlp_and_no_attention(kinds: list[bool]):
    """Blocks are of attention, or of an MLP; there are as many rewrites as MLPs."""
    turn = iter(kinds * 2)

    def mixed(block, x):
        return x + (block.feed(x) if next(turn) else block.attend(x))

    program = canonical(mixed, depth=len(kinds))
    tokens = TopK(Total((TokenNorm(), Age())), 0.5)
    check_pass(SelectTokens(tokens), program, {"x": X}, rewrites=sum(kinds))
