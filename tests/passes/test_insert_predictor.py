from __future__ import annotations

import pytest
import torch

from fouriercache import ops
from fouriercache.errors import PreconditionError
from fouriercache.passes.insert_cache import InsertCache
from fouriercache.passes.insert_predictor import InsertPredictor
from fouriercache.testing import check_pass
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
