from __future__ import annotations

import pytest
import torch

from fouriercache import ops
from fouriercache.errors import PreconditionError, UnsupportedModelError
from fouriercache.passes.insert_cache import InsertCache
from fouriercache.passes.insert_gate import InsertGate
from fouriercache.passes.insert_predictor import InsertPredictor
from fouriercache.passes.specialize_step import SpecializeStep
from fouriercache.program import Program, TokenGrid
from fouriercache.spectral import band_map, dct_basis, grid_bases, transform
from fouriercache.testing import check_pass, feed
from tests.passes.stages import after, toy
from tests.passes.toys import X, plain


def one_branch(block, x):
    return x + block.down(block.up(x))


def test_predicts_a_branch_from_its_history():
    program = after(toy(one_branch), InsertCache("branch", 2))
    text = check_pass(InsertPredictor(), program, {"x": X}, rewrites=1)
    assert (
        text[: text.index("block sites")]
        == """\
main(%0: f32[2,6,8] x, %1: f32[2,6,8] slot_0_0 (slot), %2: f32[2,6,8] slot_0_1 (slot), %3: f32[2] coefficients)
  # blocks.0
  %4: f32[2,6,16] = linear.default(%0, @blocks.0.up.weight, @blocks.0.up.bias)
  %5: f32[2,6,8] = linear.default(%4, @blocks.0.down.weight, @blocks.0.down.bias)
  %6: f32[2,2,6,8] = fouriercache.cache_lookup([%1, %2])
  %7: f32[2,6,8] = fouriercache.predict(%6, %3)
  %8: f32[2,6,8] = add.Tensor(%0, %5)
  return [%8, %5]

"""
    )


def test_adds_the_predicted_difference_to_the_stream():
    text = check_pass(InsertPredictor(), after(toy(one_branch), InsertCache("stack", 1)), {"x": X}, rewrites=1)
    assert (
        """\
  %8: f32[2,6,8] = fouriercache.predict(%7, %2)
  %9: f32[2,6,8] = add.Tensor(%0, %8)
"""
        in text
    )


@pytest.mark.parametrize("history", [1, 3])
def test_all_sites_share_one_input_of_coefficients(history: int):
    program = after(toy(plain, depth=3), InsertCache("branch", history), InsertPredictor())
    (coefficients,) = program.inputs_of("coefficients")
    predictions = program.graph.find_nodes(op="call_function", target=ops.predict)
    assert len(predictions) == 6
    assert all(node.args[1] is coefficients for node in predictions)
    value = coefficients.meta["val"]
    assert (value.dtype, list(value.shape)) == (torch.float32, [history])


def test_keeps_sites_that_have_a_predictor():
    program = after(toy(plain), InsertCache("branch", 1), InsertPredictor())
    assert check_pass(InsertPredictor(), program, {"x": X}, rewrites=0) == program.text()


def test_needs_slots_to_predict_from():
    with pytest.raises(PreconditionError, match=r"InsertPredictor needs slots(.|\n)*Run InsertCache first"):
        InsertPredictor().apply(toy(plain))


def on_grid(program: Program, grid: TokenGrid) -> Program:
    program.grid = grid
    return program


def predict(program: Program, coefficients: torch.Tensor) -> torch.Tensor:
    """Run a step that reuses slots of noise; return what is added to the stream."""
    generator = torch.Generator().manual_seed(0)
    slots = {node.name: torch.randn(X.shape, generator=generator) for node in program.inputs_of("slot")}
    reuse = after(program, InsertGate(), SpecializeStep("reuse"))
    found: torch.Tensor = reuse.module()(*feed(reuse, {"x": X, "coefficients": coefficients, **slots}))[0]
    return found - X


@pytest.mark.parametrize("basis", ["dct", "dft"])
@pytest.mark.parametrize("edges", [(0.3,), (0.4, 0.8)])
def test_each_spatial_band_is_predicted_by_its_own_row(edges, basis):
    program = after(on_grid(toy(one_branch), TokenGrid(1, 2, 3)), InsertCache("branch", 2))
    bands = len(edges) + 1
    rows = torch.arange(1.0, 2 * bands + 1).view(bands, 2) / 3
    have = predict(after(program, InsertPredictor(edges, basis=basis)), rows[None])
    parts = torch.stack([predict(after(program, InsertPredictor()), row) for row in rows])
    bases = grid_bases((2, 3), basis, torch.float32)
    masks = torch.stack([(band_map((2, 3), edges, basis) == band).flatten() for band in range(bands)])
    spectra = transform(parts, bases) * masks[:, None, :, None]
    want = transform(spectra.sum(0), [matrix.T for matrix in bases])
    torch.testing.assert_close(have, want, rtol=1e-5, atol=1e-5)


def test_bands_of_frames_leave_the_frames_apart():
    program = after(on_grid(toy(one_branch), TokenGrid(2, 1, 3)), InsertCache("branch", 1))
    have = predict(after(program, InsertPredictor((0.4,), basis="frame_dct")), torch.tensor([[[2.0], [-1.0]]]))
    plain = predict(after(program, InsertPredictor()), torch.tensor([1.0])).unflatten(1, (2, 3))
    basis = dct_basis(3, torch.float32)
    gains = torch.where(band_map((3,), (0.4,)) == 0, 2.0, -1.0)
    want = basis.T @ (gains[:, None] * (basis @ plain))
    torch.testing.assert_close(have, want.flatten(1, 2), rtol=1e-5, atol=1e-5)


def test_each_site_is_predicted_by_its_own_row():
    program = after(toy(plain), InsertCache("branch", 1), InsertPredictor(per_site=True))
    (coefficients,) = program.inputs_of("coefficients")
    assert list(coefficients.meta["val"].shape) == [2, 1, 1]
    whole = predict(program, torch.tensor([[[2.0]], [[3.0]]]))
    parts = [predict(program, torch.tensor(rows)) for rows in ([[[2.0]], [[0.0]]], [[[0.0]], [[3.0]]])]
    torch.testing.assert_close(whole, parts[0] + parts[1], rtol=1e-5, atol=1e-5)
    assert not torch.allclose(parts[0], parts[1])


def test_bands_need_a_token_grid():
    program = after(toy(plain), InsertCache("branch", 1))
    with pytest.raises(UnsupportedModelError, match=r"(?s)predictor with spatial bands.*Pass optimize.*TokenGrid"):
        InsertPredictor((0.5,)).apply(program)


def test_the_tokens_of_a_joint_stream_outside_the_grid_take_the_lowest_band():
    program = after(on_grid(toy(one_branch), TokenGrid(1, 2, 2, start=1)), InsertCache("branch", 1))
    have = predict(after(program, InsertPredictor((0.1,))), torch.tensor([[[2.0], [0.0]]]))
    want = predict(after(program, InsertPredictor()), torch.tensor([2.0]))
    torch.testing.assert_close(have[:, [0, 5]], want[:, [0, 5]])
    torch.testing.assert_close(have[:, 1:5], want[:, 1:5].mean(1, keepdim=True).expand(-1, 4, -1))
