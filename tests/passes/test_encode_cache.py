from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from fouriercache.codecs import Storage
from fouriercache.errors import PreconditionError, UnsupportedModelError
from fouriercache.passes.encode_cache import EncodeCache
from fouriercache.passes.find_grid import FindGrid
from fouriercache.passes.find_sites import FindSites
from fouriercache.passes.insert_cache import InsertCache
from fouriercache.passes.insert_gate import InsertGate
from fouriercache.passes.insert_predictor import InsertPredictor
from fouriercache.passes.remove_noops import RemoveNoops
from fouriercache.passes.specialize_step import SpecializeStep
from fouriercache.program import Program, Slot, TokenGrid
from fouriercache.testing import feed
from tests import zoo
from tests.passes.stages import after, toy
from tests.passes.toys import X, plain

GRID = TokenGrid(1, 2, 3)  # the six tokens of X
LOW = Storage("dct", 0.25)
EXACT = 1e-5  # transforms there and back, float32


def one_branch(block, x):
    return x + block.down(block.up(x))


def predicted(site: str = "branch", history: int = 1, grid: TokenGrid | None = GRID, **options) -> Program:
    program = toy(plain if site != "branch" else one_branch)
    program.grid = grid
    return after(program, InsertCache(site, history), InsertPredictor(**options))


def encoded(program: Program, storage: Storage) -> Program:
    made = program.clone()
    assert EncodeCache(storage).apply(made, check=True) == len(program.sites)
    return made


def step(program: Program, weights: list[float]) -> tuple[dict[str, Tensor], Tensor]:
    """What a computed step keeps, and what a reuse step gives that reads it at every age."""
    gated = after(program, InsertGate())
    compute, reuse = after(gated, SpecializeStep("compute")), after(gated, SpecializeStep("reuse"))
    values = compute.module()(*feed(compute, {"x": X}))
    kept = {o.name: value for o, value in zip(compute.outputs, values, strict=True) if o.role == "slot"}
    slots = {name: kept[slot.column] for name, slot in gated.slots.items()}
    (wanted,) = program.inputs_of("coefficients")
    coefficients = torch.tensor(weights).expand(wanted.meta["val"].shape).contiguous()
    return kept, reuse.module()(*feed(reuse, {"x": X, **slots, "coefficients": coefficients}))[0]


def test_keeps_the_lowest_coefficients_and_transforms_back_once():
    text = encoded(predicted(history=2), LOW).text()
    assert (
        text[: text.index("block sites")]
        == """\
main(%0: f32[2,6,8] x, %1: f32[2,2,8] slot_0_0 (slot), %2: f32[2,2,8] slot_0_1 (slot), %3: f32[2] coefficients)
  # blocks.0
  %4: f32[2,6,16] = linear.default(%0, @blocks.0.up.weight, @blocks.0.up.bias)
  %5: f32[2,6,8] = linear.default(%4, @blocks.0.down.weight, @blocks.0.down.bias)
  %6: f32[2,2,8] = fouriercache.fft_compress(%5, [@dct_to_2_1, @dct_to_3_2], 0)
  %7: f32[2,2,2,8] = fouriercache.cache_lookup([%1, %2])
  %8: f32[2,2,8] = fouriercache.predict(%7, %3)
  %9: f32[2,6,8] = fouriercache.fft_expand(%8, [@dct_from_2_1, @dct_from_3_2], 0)
  %10: f32[2,6,8] = add.Tensor(%0, %5)
  return [%10, %6]

"""
    )


@pytest.mark.parametrize("site", ["branch", "block", "stack"])
@pytest.mark.parametrize("slots", ["all", "older"])
@pytest.mark.parametrize("bands", [(), (0.5,)], ids=["one band", "bands"])
def test_every_coefficient_kept_is_the_value_kept(site: str, slots, bands):
    weights = [1.5, -0.5]
    _, want = step(predicted(site, 2), weights)
    _, have = step(encoded(predicted(site, 2, edges=bands), Storage("dct", 1.0, slots=slots)), weights)
    torch.testing.assert_close(have, want, rtol=EXACT, atol=EXACT)


def test_int8_is_off_by_at_most_half_a_scale():
    kept, _ = step(encoded(predicted(), Storage(dtype="int8")), [1.0])
    dense, _ = step(predicted(), [1.0])
    whole, scale = kept["blocks.0.mlp.int8"], kept["blocks.0.mlp.int8.scale"]
    assert (whole.dtype, scale.dtype, scale.shape) == (torch.int8, torch.float32, (2, 6, 1))
    value = dense["blocks.0.mlp"]
    assert torch.equal(scale[..., 0], value.abs().amax(-1) * (1 / 127))
    # Half a scale, and one rounding of the quotient.
    assert bool(((whole * scale - value).abs() <= scale * (0.5 + 1e-4)).all())


def test_a_token_of_zeros_is_kept_as_zeros():
    def silent(block, x):
        return x + block.down(block.up(x)) * 0.0

    program = toy(silent)
    made = after(program, InsertCache("branch", 1), InsertPredictor(), EncodeCache(Storage(dtype="int8")))
    kept, result = step(made, [1.0])
    assert not any(value.any() for value in kept.values())
    assert torch.equal(result, X)


def test_an_older_form_stands_beside_the_newest_value():
    program = encoded(predicted(history=3), Storage("dct", 0.25, "int8", "older"))
    older = "blocks.0.mlp.dct_1_1_2.int8"
    assert [output.name for output in program.outputs[1:]] == ["blocks.0.mlp", older, f"{older}.scale"]
    assert program.slots == {
        "slot_0_0": Slot("blocks.0.mlp", 0, "blocks.0.mlp"),
        "slot_0_1": Slot("blocks.0.mlp", 1, older),
        "slot_0_1_scale": Slot("blocks.0.mlp", 1, f"{older}.scale"),
        "slot_0_2": Slot("blocks.0.mlp", 2, older),
        "slot_0_2_scale": Slot("blocks.0.mlp", 2, f"{older}.scale"),
    }


def test_bands_of_a_truncated_value_are_those_of_what_is_kept():
    """The mean is reused and the only other frequency kept is dropped: each channel becomes its mean over the grid."""
    program = encoded(predicted(edges=(0.1,)), LOW)
    gated = after(program, InsertGate())
    compute, reuse = after(gated, SpecializeStep("compute")), after(gated, SpecializeStep("reuse"))
    value = compute.module()(*feed(compute, {"x": X}))[1]
    given = {"x": X, "slot_0_0": value, "coefficients": torch.tensor([[[1.0], [0.0]]])}
    have = reuse.module()(*feed(reuse, given))[0] - X
    dense, _ = step(predicted(), [1.0])
    torch.testing.assert_close(have, dense["blocks.0.mlp"].mean(1, keepdim=True).expand_as(X), rtol=EXACT, atol=EXACT)


def test_keeps_a_program_when_nothing_is_asked_for():
    program = predicted()
    assert EncodeCache().apply(program.clone()) == 0
    gated = after(program, InsertGate())
    assert EncodeCache().apply(gated.clone()) == 0


def test_keeps_a_site_that_is_encoded():
    program = encoded(predicted(), LOW)
    assert EncodeCache(Storage(dtype="int8")).apply(program.clone()) == 0


def test_keeps_a_value_whose_dtype_is_no_wider():
    (site,) = predicted().sites
    narrow = predicted()
    narrow.sites = (replace(site, dtype=torch.bfloat16),)
    assert EncodeCache(Storage(dtype="float16")).apply(narrow) == 0
    assert "no wider than torch.float16" in narrow.refused["EncodeCache"][0].reason


def test_keeps_a_value_that_is_not_on_the_grid():
    found = after(zoo.captured("sd3"), RemoveNoops(), FindSites(), FindGrid())
    program = after(found, InsertCache("branch", 1), InsertPredictor(edges=(0.5,)))
    reasons = [reason.reason for reason in program.refused["InsertPredictor"]]
    text = [site for site in program.sites if site.shape[1] == 6]
    assert 0 < len(reasons) == len(text) < len(program.sites)
    assert all("its 6 tokens do not hold the 1 x 8 x 8 grid" in reason for reason in reasons)
    assert EncodeCache(Storage("dct", 0.25)).apply(program) == len(program.sites) - len(text)
    assert [reason.reason for reason in program.refused["EncodeCache"]] == reasons
    tokens = [node.meta["val"].shape[1] for node in program.inputs_of("slot")]
    assert sorted(tokens) == sorted([6] * len(text) + [16] * (len(program.sites) - len(text)))


@pytest.mark.parametrize(
    ("grid", "fault"),
    [(None, "grid"), (TokenGrid(1, 2, 2), "6 tokens"), (TokenGrid(1, 2, 2, 3), "6 tokens")],
)
def test_needs_a_site_on_the_token_grid(grid, fault: str):
    program = predicted(grid=grid)
    with pytest.raises(UnsupportedModelError, match=rf"(?s)codec of spatial coefficients.*{fault}.*Pass optimize"):
        EncodeCache(LOW).apply(program)


def test_transforms_the_grid_of_a_longer_stream_and_lets_the_rest_pass():
    program = predicted(grid=TokenGrid(1, 2, 2, start=1))
    kept, have = step(encoded(program, Storage("dct", 0.25)), [1.0])
    dense, _ = step(predicted(), [1.0])
    ((_, value),) = kept.items()
    (whole,) = dense.values()
    assert value.shape == (2, 3, 8)  # a token before, one coefficient, a token behind
    assert torch.equal(value[:, [0, 2]], whole[:, [0, 5]])
    torch.testing.assert_close(value[:, 1], whole[:, 1:5].mean(1), rtol=EXACT, atol=EXACT)
    assert torch.equal((have - X)[:, 0], (X + whole - X)[:, 0])


def test_needs_predictions_that_no_gate_reads():
    with pytest.raises(PreconditionError, match=r"(?s)needs predictions that no gate reads.*before InsertGate"):
        EncodeCache(LOW).apply(after(predicted(), InsertGate()))


def test_needs_the_basis_of_the_bands():
    with pytest.raises(PreconditionError, match=r"(?s)needs the basis of the bands.*Storage\(basis='dct'"):
        EncodeCache(Storage(dtype="int8")).apply(predicted(edges=(0.5,)))
