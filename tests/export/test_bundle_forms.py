"""Forms of calls in one bundle: several resolutions, any batch, and a batch that the model treats otherwise."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import fouriercache as fc
from fouriercache.bundle import WEIGHTS, dtype_of
from fouriercache.errors import BundleError
from fouriercache.testing.bundle_loops import compare_bundle
from tests.tiny import ROUNDING, denoise, distance, labels, noise, step_inputs, tiny_dit

pytestmark = pytest.mark.ort
TIMESTEPS = tuple(range(900, 0, -100))
SIZES = (8, 12)
CALLS = [step_inputs(noise(size=size), 500, labels()) for size in SIZES]


@pytest.fixture(scope="module")
def fast() -> fc.OptimizedModule:
    return fc.optimize(tiny_dit(layers=1), fc.TaylorSeer(3, 1, site="stack"), num_steps=9)


@pytest.fixture(scope="module")
def folder(fast: fc.OptimizedModule, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of both resolutions."""
    path: Path = tmp_path_factory.mktemp("forms") / "bundle"
    fc.export(fast, path, example_inputs=CALLS)
    return path


@pytest.mark.parametrize("single_graph", [False, True])
def test_each_resolution_runs_in_onnx_runtime_as_in_eager_at_any_batch(fast, folder, single_graph):
    bundled = fc.load(folder, threads=1, single_graph=single_graph)
    for size in SIZES:
        for batch in (2, 1, 3):
            x = noise(batch, size)
            want = denoise(fast.new_session(), x=x, timesteps=TIMESTEPS)
            assert distance(denoise(bundled.new_session(), x=x, timesteps=TIMESTEPS), want) < ROUNDING


def test_resolutions_share_their_weights(fast, folder):
    found = fc.load(folder).manifest
    assert [form.call.tensors[0].shape for form in found.forms] == [("batch", 3, size, size) for size in SIZES]
    own = sum(weight.nbytes for weight in (*fast.model.parameters(), *fast.model.buffers()))
    assert found.files[WEIGHTS].bytes < 1.5 * own  # at least twice, if each resolution had weights of its own


def test_requests_of_two_resolutions_do_not_meet(fast, folder):
    bundled = fc.load(folder, threads=1)
    want = [denoise(fast.new_session(), x=noise(size=size), timesteps=TIMESTEPS) for size in SIZES]
    sessions, samples = [bundled.new_session() for _ in SIZES], [noise(size=size) for size in SIZES]
    have: list[list[torch.Tensor]] = [[], []]
    for timestep in TIMESTEPS:
        for position, session in enumerate(sessions):
            have[position].append(session(**step_inputs(samples[position], timestep, labels())).sample)
            samples[position] = samples[position] - have[position][-1] / 8
    assert all(distance(one, other) < ROUNDING for one, other in zip(have, want, strict=True))


def test_a_resolution_that_was_not_exported_is_refused_with_those_that_were(folder):
    with pytest.raises(BundleError, match=r"(?s)no graphs for calls of this form.*8, 8\].*12, 12\]"):
        fc.load(folder, threads=1)(**step_inputs(noise(size=16), 500, labels()))


class Doubled(torch.nn.Module):
    """A model that gives twice as much for a sample alone: torch.export cannot see that."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = tiny_dit(layers=1)
        self.eval()

    def forward(self, hidden_states: Any, timestep: Any, class_labels: Any) -> Any:
        found = self.inner(hidden_states, timestep, class_labels, return_dict=False)[0]
        return found * 2 if hidden_states.shape[0] == 1 else found


@pytest.mark.exhaustive
def test_a_batch_that_the_model_treats_otherwise_is_not_promised(tmp_path):
    model, one = Doubled(), step_inputs(noise(1), 500, labels(1))
    fast = fc.optimize(model, fc.FORA(3, site="stack"), num_steps=9, example_inputs=CALLS[0])
    fc.export(fast, tmp_path / "bundle", single_graph=False)
    bundled = fc.load(tmp_path / "bundle", threads=1)
    with pytest.raises(BundleError, match="named sizes from 2 on"):
        bundled(**one)
    fc.export(fast, tmp_path / "bundle", single_graph=False, example_inputs=one)
    bundled = fc.load(tmp_path / "bundle", threads=1)
    assert [form.call.tensors[0].shape[0] for form in bundled.manifest.forms] == ["batch", 1]
    for call in (one, CALLS[0]):
        with torch.no_grad():
            want = model(**call)
        torch.testing.assert_close(bundled.new_session()(**call), want, rtol=1e-4, atol=1e-5)


class Ordered(torch.nn.Module):
    """Takes the samples in an order that it is given: the first alone may ask for another."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = tiny_dit(layers=1)
        self.eval()

    def forward(self, hidden_states: Any, timestep: Any, class_labels: Any, order: Any) -> Any:
        return self.inner(hidden_states[order], timestep, class_labels, return_dict=False)[0]


@pytest.mark.parametrize(("order", "least"), [([1, 0], 2), ([0, 1], 1)])
def test_one_sample_is_not_promised_where_the_model_refuses_the_first_alone(order, least):
    call = {**CALLS[0], "order": torch.tensor(order)}
    fast = fc.optimize(Ordered(), fc.FORA(1, site="stack"), num_steps=9, example_inputs=call)
    assert fast.least_batch(fast.captured[0]) == least


@pytest.mark.slow
@pytest.mark.exhaustive
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_a_bundle_in_half_precision_has_both_forms_and_runs_where_the_provider_can(tmp_path, dtype):
    call = {**CALLS[0], "hidden_states": CALLS[0]["hidden_states"].to(dtype_of(dtype))}
    model = tiny_dit(layers=1).to(dtype_of(dtype))
    fast = fc.optimize(model, fc.TaylorSeer(3, 1, site="stack"), num_steps=9, example_inputs=call)
    manifest = fc.export(fast, tmp_path / "bundle")
    (form,) = manifest.forms
    assert form.single is not None
    ends = [end for graph in form.graphs() for end in graph.outputs if end.role in ("result", "slot")]
    assert {end.dtype for end in ends} == {dtype}
    if dtype == "bfloat16":
        with pytest.raises(fc.EngineError, match="no bfloat16"):
            fc.load(tmp_path / "bundle")
        return
    found = compare_bundle(fast, tmp_path / "bundle", call, num_steps=9)
    assert len(found) == 2
    assert all(each.is_met for each in found)


def test_a_model_that_has_changed_is_exported_as_it_is_now(tmp_path):
    fast = fc.optimize(tiny_dit(layers=1), fc.TaylorSeer(3, 1, site="stack"), num_steps=9)
    old = denoise(fast, timesteps=TIMESTEPS)
    fast.norm_out.eps = 1.0
    with pytest.raises(fc.NotCapturedError, match="has changed since it was captured"):
        fc.export(fast, tmp_path / "bundle")
    fc.export(fast, tmp_path / "bundle", example_inputs=CALLS[0])
    bundled = denoise(fc.load(tmp_path / "bundle", threads=1), timesteps=TIMESTEPS)
    assert distance(bundled, denoise(fast, timesteps=TIMESTEPS)) < ROUNDING
    assert distance(bundled, old) > 10 * ROUNDING
