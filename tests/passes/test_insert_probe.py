from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from fouriercache.errors import PreconditionError, UnsupportedModelError
from fouriercache.indicators import BandLimited, Filtered, Indicator, Latents, Modulated, TimestepEmbedding
from fouriercache.passes.find_sites import FindSites
from fouriercache.passes.insert_probe import InsertProbe
from fouriercache.passes.specialize_step import SpecializeStep
from fouriercache.program import Input, Program, TokenGrid
from fouriercache.testing import check_pass, feed, trace
from tests import zoo
from tests.passes.stages import after, canonical_passes
from tests.passes.toys import TEXT, TIMESTEP, Model, X, gated


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


def joint(block, x, timestep):
    """Text and image are projected together, as in CogVideoX."""
    shift, scale, gate = block.modulate(timestep)
    y = F.layer_norm(x, (8,)) * (1 + scale) + shift
    q, k, v = block.qkv(torch.cat([TEXT, y], 1)).chunk(3, -1)
    x = x + gate * F.scaled_dot_product_attention(q, k, v)[:, 3:]
    return x + block.feed(x)


def test_of_text_and_image_projected_together_the_image_is_meant():
    program = timed(joint)
    program.grid = TokenGrid(1, 2, 3)
    found = outputs(after(program, InsertProbe(Filtered())), filter_0=torch.eye(2), filter_1=torch.eye(3))["indicator"]
    assert torch.equal(found.reshape(2, 6, 8), outputs(after(timed(modulated), InsertProbe()))["indicator"])


class TextFirst(torch.nn.Module):
    """Text and latents are one tensor before the blocks, and two streams in them; only the latents' come out."""

    def __init__(self):
        super().__init__()
        self.inner = Model(self.step, 2, True)

    def forward(self, x, condition):
        whole = torch.cat([TEXT, x], 1)
        x, text = whole[:, 3:], whole[:, :3]
        for block in self.inner.blocks:
            x, text = block(x, text, condition)
        return (x * 2,)

    @staticmethod
    def step(block, x, text, timestep):
        shift, scale, gate = block.modulate(timestep)
        text = text + gate * block.feed(text * scale)
        x = x + gate * block.qkv(torch.cat([F.layer_norm(x, (8,)) * (1 + scale) + shift, text], 1))[:, :6, :8]
        return x + block.feed(x), text


def test_of_two_streams_that_were_one_tensor_the_one_that_comes_out_is_meant():
    roles = {"condition": "timestep"}
    program = after(trace(TextFirst(), X, TIMESTEP, roles=roles), FindSites())  # type: ignore[arg-type]
    entries = {site.spine for site in program.found["branch"] if site.block.endswith("blocks.0")}
    assert len(entries & {site.spine for site in program.found["stack"]}) == 1 < len(entries)
    plain = outputs(after(timed(modulated), InsertProbe()))["indicator"]
    assert torch.equal(outputs(after(program, InsertProbe()))["indicator"], plain)


@pytest.mark.parametrize("name", [name for name in zoo.BUILDERS if name != "flux"])
@pytest.mark.parametrize("source", ["modulated", "latents"])
def test_filters_on_the_grid_of_every_family_that_shows_one(name: str, source):
    program = after(zoo.captured(name, 1), *canonical_passes("stack", 1))
    assert InsertProbe(Filtered(source=source)).apply(program, check=True) == 1
    assert len(program.inputs_of("control")) == (3 if name == "wan" else 2)


def test_packed_latents_are_filtered_on_the_grid_that_is_given():
    program = zoo.captured("flux", 1)
    program.grid = TokenGrid(1, 4, 4)
    program = after(program, *canonical_passes("stack", 1))
    for source in ("modulated", "latents"):
        made = after(program, InsertProbe(Filtered(source=source)))
        assert len(made.inputs_of("control")) == 2


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


def test_refuses_a_model_whose_blocks_do_not_read_the_latents():
    program = timed(modulated)
    program.set_inputs((Input("x", "conditioning"), Input("condition", "sample")))
    with pytest.raises(UnsupportedModelError, match="0 token streams come from the latents"):
        InsertProbe().apply(program)
