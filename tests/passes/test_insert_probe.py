from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from fouriercache.errors import PreconditionError, UnsupportedModelError
from fouriercache.indicators import BandLimited, Filtered, Indicator, Latents, Modulated, TimestepEmbedding
from fouriercache.passes.find_sites import FindSites
from fouriercache.passes.insert_probe import InsertProbe
from fouriercache.passes.specialize_step import SpecializeStep
from fouriercache.program import Program, TokenGrid
from fouriercache.testing import check_pass, feed, trace
from tests import zoo
from tests.passes.stages import after, canonical_passes
from tests.passes.toys import TIMESTEP, Model, X, gated


def modulated(block, x, timestep):
    """One value, scaled and shifted by the timestep, goes to all projections."""
    shift, scale, gate = block.modulate(timestep)
    y = F.layer_norm(x, (8,)) * (1 + scale) + shift
    q, k, v = block.qkv(y).chunk(3, -1)
    x = x + gate * F.scaled_dot_product_attention(q, k, v)
    return x + block.feed(x)


def timed(forward, *, depth: int = 1, bare: bool = True) -> Program:
    roles = {"condition": "timestep"}
    return after(trace(Model(forward, depth, bare), X, TIMESTEP, roles=roles), FindSites())  # type: ignore[arg-type]


def outputs(program: Program, **given: torch.Tensor) -> dict[str, torch.Tensor]:
    with torch.no_grad():
        values = program.module()(*feed(program, {"x": X, "condition": TIMESTEP, **given}))
    return {output.name: value for output, value in zip(program.outputs, values, strict=True)}


def test_returns_the_modulated_input_of_the_first_branch_and_its_change():
    text = check_pass(InsertProbe(), timed(modulated), {"x": X, "condition": TIMESTEP}, rewrites=1)
    lines = text[: text.index("block sites")].splitlines()
    assert lines[0] == "main(%0: f32[2,6,8] x, %1: f32[2,8] condition, %2: f32[2,6,8] indicator)"
    value = next(line for line in lines if "linear.default(%" in line and "qkv" in line).split("linear.default(")[1][:3]
    assert (
        "\n".join(lines[-8:]).strip()
        == f"""\
%26: f32[2,6,8] = sub.Tensor({value}, %2)
  %27: f32[2,6,8] = abs.default(%26)
  %28: f32[] = mean.default(%27)
  %29: f32[2,6,8] = abs.default(%2)
  %30: f32[] = mean.default(%29)
  %31: f32[2] = stack.default([%28, %30])
  return [%25, {value}, %31]"""
    )


def test_means_are_those_of_the_change_and_of_the_indicator_before():
    program = after(timed(modulated), InsertProbe())
    before = torch.randn(2, 6, 8, generator=torch.Generator().manual_seed(1))
    found = outputs(program, indicator=before)
    change, size = found["distance"].tolist()
    assert change == pytest.approx(float((found["indicator"] - before).abs().mean()))
    assert size == pytest.approx(float(before.abs().mean()))


def test_the_value_is_what_the_first_block_projects_whatever_the_depth():
    for depth in (1, 3):
        program = after(timed(modulated, depth=depth, bare=False), InsertProbe())
        model = Model(modulated, depth)
        block = model.blocks[0]
        x = model.embed(X)
        shift, scale, _ = block.modulate(TIMESTEP)  # type: ignore[operator]
        with torch.no_grad():
            torch.testing.assert_close(outputs(program)["indicator"], F.layer_norm(x, (8,)) * (1 + scale) + shift)


@pytest.mark.parametrize("name", zoo.BUILDERS)
@pytest.mark.parametrize("indicator", [Modulated(), TimestepEmbedding(), Latents()], ids=lambda part: part.name)
def test_finds_the_indicator_in_every_family(indicator: Indicator, name: str):
    program = after(zoo.captured(name, 1), *canonical_passes("stack", 1))
    assert InsertProbe(indicator).apply(program, check=True) == 1


def test_a_projected_embedding_is_that_of_all_blocks():
    program = after(
        zoo.captured("wan", 1), *canonical_passes("stack", 1), InsertProbe(TimestepEmbedding(projected=True))
    )
    (indicator,) = program.inputs_of("state")
    assert indicator.meta["val"].shape[-1] == 6 * 24  # shift, scale and gate of two branches, width 24


def test_latents_are_copied_as_the_caller_may_change_them():
    found = outputs(after(timed(modulated), InsertProbe(Latents())))
    assert torch.equal(found["indicator"], X)
    assert found["indicator"].data_ptr() != X.data_ptr()


@pytest.mark.parametrize("indicator", [Filtered(), BandLimited(0.5)], ids=lambda part: part.name)
def test_a_filter_is_a_matrix_along_each_axis_of_the_grid(indicator: Indicator):
    program = timed(modulated)
    program.grid = TokenGrid(1, 2, 3)
    plain = outputs(after(program, InsertProbe()))["indicator"]
    made = after(program, InsertProbe(indicator))
    rows, columns = indicator.filters((2, 3), 0.3)
    rows, columns = rows.to(torch.float32), columns.to(torch.float32)
    found = outputs(made, filter_0=rows, filter_1=columns)["indicator"]
    wanted = torch.einsum("ab,cd,nbdk->nack", rows, columns, plain.unflatten(1, (2, 3)))
    torch.testing.assert_close(found.reshape(wanted.shape), wanted)


def test_a_grid_inside_the_stream_is_cut_out_before_it_is_filtered():
    program = timed(modulated)
    program.grid = TokenGrid(1, 2, 2, start=2)
    plain = outputs(after(program, InsertProbe()))["indicator"]
    found = outputs(after(program, InsertProbe(Filtered())), filter_0=torch.eye(2), filter_1=torch.eye(2))["indicator"]
    assert torch.equal(found.reshape(2, 4, 8), plain[:, 2:])


def test_keeps_a_program_that_has_a_distance():
    program = after(timed(modulated), InsertProbe())
    check_pass(InsertProbe(), program, {"x": X, "condition": TIMESTEP}, rewrites=0)


def test_refuses_a_program_without_sites():
    with pytest.raises(PreconditionError, match="Run FindSites first"):
        InsertProbe().apply(trace(Model(gated), X, TIMESTEP))


def test_refuses_a_step_whose_branches_are_gone():
    program = after(zoo.captured("dit", 1), *canonical_passes("branch", 1), SpecializeStep("reuse"))
    with pytest.raises(PreconditionError, match="before SpecializeStep"):
        InsertProbe().apply(program)


def unmodulated(block, x, timestep):
    shift, _, gate = block.modulate(timestep)
    return x + gate * block.attend(x) + shift


def reads_two(block, x, timestep):
    shift, scale, gate = block.modulate(timestep)
    y = block.down(F.gelu(block.up(x * scale))) + block.qkv(x + shift)[..., :8]
    return x + gate * F.scaled_dot_product_attention(y, y, y)


@pytest.mark.parametrize(
    ("forward", "indicator", "reason"),
    [
        (unmodulated, Modulated(), "does not depend on the timestep"),
        (reads_two, Modulated(), "read 2 values, not one"),
        (modulated, TimestepEmbedding(), "number 2 in a row"),
        (modulated, Filtered(), "its token grid is not known"),
        (modulated, Filtered(source="latents"), "its token grid is not known"),
    ],
)
def test_refuses_an_indicator_that_cannot_be_proved(forward, indicator: Indicator, reason: str):
    with pytest.raises(UnsupportedModelError, match=f"(?s){reason}.*where: .*Use another indicator"):
        InsertProbe(indicator).apply(timed(forward))


def test_refuses_a_grid_that_does_not_fit_the_tokens():
    program = timed(modulated)
    program.grid = TokenGrid(1, 4, 4)
    with pytest.raises(UnsupportedModelError, match="it has 6 tokens, the grid 16"):
        InsertProbe(Filtered()).apply(program)


def test_refuses_a_stack_that_cannot_be_followed():
    program = timed(modulated)
    program.found["stack"] = ()
    with pytest.raises(UnsupportedModelError, match="no token stream can be followed"):
        InsertProbe().apply(program)
