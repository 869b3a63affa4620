"""Faults of the caller's are told as such: wrong inputs, grids and flags, and what an optimised module cannot do."""

from __future__ import annotations

import copy
import inspect
import io
import pickle

import pytest
import torch
from torch import nn

import fouriercache as fc
from tests.test_bad_input import says
from tests.tiny import METHOD, labels, noise, step_inputs, tiny_dit


def test_refuses_a_model_of_which_a_part_is_in_training_mode():
    model = tiny_dit()
    model.transformer_blocks[1].ff.net.append(nn.Dropout(0.5))
    with pytest.raises(fc.CaptureError, match=says("in training mode in part: transformer_blocks.1", "eval()")):
        fc.optimize(model, METHOD)


def test_names_the_part_in_training_mode_that_makes_a_model_differ_from_its_graph():
    model = tiny_dit()
    model.transformer_blocks[0].train()  # drops labels at random
    for part in model.transformer_blocks[0].modules():
        if isinstance(part, nn.Dropout):
            part.eval()
    embedder = model.transformer_blocks[0].norm1.emb.class_embedder
    embedder.dropout_prob = 0.5
    fast = fc.optimize(model, METHOD)
    torch.manual_seed(0)
    with pytest.raises(fc.CaptureError, match=says("does not compute", "In training mode are transformer_", "eval")):
        fast(**step_inputs(noise(64), 900, labels(64)))


@pytest.mark.usefixtures("captured_anew")
def test_a_fault_of_the_callers_is_told_in_the_models_own_words(fast):
    inputs = step_inputs(noise(), 900, labels())
    wrong = {
        "channels": (inputs | {"hidden_states": torch.randn(2, 5, 8, 8)}, RuntimeError, "channels"),
        "labels": (inputs | {"class_labels": torch.tensor([99, 99])}, IndexError, "index"),
    }
    for given, kind, words in wrong.values():
        unused = fc.optimize(tiny_dit(), METHOD)
        with pytest.raises(kind, match=words) as caught:
            unused(**given)
        assert not isinstance(caught.value, fc.OptimizeError)
        assert "raised by DiTTransformer2DModel itself" in " ".join(caught.value.__notes__)


def test_refuses_example_inputs_that_are_not_named_or_not_the_models():
    model = tiny_dit()
    inputs = step_inputs(noise(), 900, labels())
    for given in (tuple(inputs.values()), noise(), None):
        with pytest.raises(fc.CaptureError, match=says("not a dict of keyword", "'hidden_states'", "timestep")):
            fc.optimize(model, METHOD).capture(given)  # type: ignore[arg-type]
    with pytest.raises(fc.CaptureError, match=says("do not fit", "'hidden_state'", "Did you mean 'hidden_states'?")):
        fc.optimize(model, METHOD, example_inputs=inputs | {"hidden_state": noise()})
    with pytest.raises(fc.CaptureError, match=says("missing a required argument", "'hidden_states'")):
        fc.optimize(model, METHOD, example_inputs={"timestep": torch.tensor([1, 1])})


@pytest.mark.parametrize("sizes", [(0, 4, 4), (1, -4, 4), (1, 4, 2.5), (1, 4, True), (1, 4, 4, -1)])
def test_refuses_grids_whose_sizes_are_none(sizes):
    with pytest.raises(fc.MethodError, match=says("TokenGrid needs", "TokenGrid(1, 16, 16)")):
        fc.TokenGrid(*sizes)


def test_refuses_grids_that_are_none_or_do_not_fit_the_tokens():
    inputs = step_inputs(noise(), 900, labels())
    for grid in ((4, 4), "4x4"):
        with pytest.raises(fc.MethodError, match=says("not a TokenGrid", "fc.TokenGrid(t, h, w)")):
            fc.optimize(tiny_dit(), METHOD, grid=grid)  # type: ignore[arg-type]
    with pytest.raises(fc.UnsupportedModelError, match=says("1 x 99 x 3 has 297 tokens", "streams of 16 tokens")):
        fc.optimize(tiny_dit(), METHOD, grid=fc.TokenGrid(1, 99, 3), example_inputs=inputs)


def test_asking_for_a_report_before_a_capture_is_no_accident():
    fast = fc.optimize(tiny_dit(), METHOD)
    assert not hasattr(fast, "report")
    assert "method" in dict(inspect.getmembers(fast))
    with pytest.raises(fc.NotCapturedError, match="nothing has been captured yet"):
        fast.report  # noqa: B018  # reading it is the test


def test_an_optimised_module_can_be_pickled_and_copied(fast):
    want = fast.new_session()(**step_inputs(noise(), 900, labels())).sample
    stored = io.BytesIO()
    torch.save(fast, stored)
    stored.seek(0)
    for other in (torch.load(stored, weights_only=False), copy.copy(fast)):
        assert other.method == fast.method
        assert torch.equal(other(**step_inputs(noise(), 900, labels())).sample, want)
    assert copy.copy(fast).model is fast.model


def test_refuses_to_copy_or_pickle_a_session(fast):
    for store in (copy.copy, copy.deepcopy, pickle.dumps):
        with pytest.raises(fc.TrajectoryError, match=says("running trajectory", "fast.new_session()")):
            store(fast.new_session())


def test_refuses_to_be_exported_and_says_what_can_be(fast):
    with pytest.raises(fc.CaptureError, match=says("cannot be traced", "export_program(fast.program('cond'))")):
        torch.export.export(fast, (), step_inputs(noise(), 900, labels()), strict=False)
