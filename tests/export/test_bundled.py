"""A loaded bundle in the place of the module it was exported from: calls, trajectories, threads, refusals."""

from __future__ import annotations

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

import fouriercache as fc
from fouriercache.errors import BundleError, EngineError, MethodError, PreconditionError, TrajectoryError
from fouriercache.runtime.onnxruntime import GraphExecutable
from fouriercache.testing.bundle_loops import compare_bundle
from tests.tiny import ROUNDING, denoise, distance, is_same, labels, noise, step_inputs, tiny_dit

pytestmark = pytest.mark.ort
TIMESTEPS = tuple(range(900, 0, -100))


@pytest.fixture(scope="module")
def bundled(bundle: Path) -> fc.BundledModule:
    return fc.load(bundle, threads=1)


@pytest.mark.parametrize("batch", [1, 2, 3])
def test_a_bundle_computes_what_the_module_computes_at_any_batch(stacked, bundled, batch):
    x = noise(batch)
    want = denoise(stacked.new_session(), timesteps=TIMESTEPS, x=x)
    session = bundled.new_session()
    assert distance(denoise(session, timesteps=TIMESTEPS, x=x), want) < ROUNDING
    assert session.computed_steps == {0: stacked.schedule}


def test_two_passes_of_a_step_are_told_apart_as_in_the_module(stacked, bundled):
    def guided(session):
        x, found = noise(), []
        for timestep in TIMESTEPS:
            for name, first in (("cond", 1), ("uncond", 4)):
                with torch.no_grad(), session.cache_context(name):
                    found.append(session(**step_inputs(x, timestep, labels(first=first))).sample)
            x = x - (2 * found[-2] - found[-1]) / 8
        return found

    assert distance(guided(bundled.new_session()), guided(stacked.new_session())) < ROUNDING


def test_prepared_timesteps_hoist_the_conditioning_in_one_batch(stacked, bundled, monkeypatch):
    files = []
    run = GraphExecutable.__call__

    def record(self, values):
        files.append(self.graph.file)
        return run(self, values)

    monkeypatch.setattr(GraphExecutable, "__call__", record)
    session = bundled.new_session()
    session.prepare(TIMESTEPS)
    assert (
        distance(denoise(session, timesteps=TIMESTEPS), denoise(stacked.new_session(), timesteps=TIMESTEPS)) < ROUNDING
    )
    # once for the batch, once for a step alone, with which the first batch of all is compared
    assert [files.count(f"{mode}.timed.onnx") for mode in ("compute", "reuse")] == [2, 2]
    computed = len(stacked.schedule)
    assert [files.count(f"{mode}.moving.onnx") for mode in ("compute", "reuse")] == [computed, 9 - computed]


def test_a_bundle_runs_without_diffusers_and_without_the_models_code(bundle, bundled):
    script = f"""
import sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("diffusers", "transformers", "pickle5"):
            raise ImportError(name)
sys.meta_path.insert(0, Refuse())
import torch
from fouriercache.load import load
fast = load({str(bundle)!r}, threads=1)
x = torch.linspace(-1, 1, 2 * 3 * 8 * 8).reshape(2, 3, 8, 8)
out = fast(x, timestep=torch.tensor([900, 900]), class_labels=torch.tensor([1, 4]))
assert out.sample is out[0] is out["sample"] and out.to_tuple() == (out[0],)
print(float(out.sample.double().sum()))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    x = torch.linspace(-1, 1, 2 * 3 * 8 * 8).reshape(2, 3, 8, 8)
    want = bundled.new_session()(**step_inputs(x, 900, torch.tensor([1, 4]))).sample
    assert float(done.stdout) == pytest.approx(float(want.double().sum()), abs=1e-4)


def test_results_have_the_models_own_type_where_diffusers_is_loaded(stacked, bundled):
    call = step_inputs(noise(), 900, labels())
    assert type(bundled.new_session()(**call)) is type(stacked.new_session()(**call))


def test_a_bundle_has_the_models_configuration_and_text(stacked, bundled):
    assert bundled.config.patch_size == bundled.config["patch_size"] == 2
    assert bundled.dtype == torch.float32
    assert bundled.text("reuse") == stacked.program("reuse").text()
    with pytest.raises(PreconditionError, match="There are: compute, reuse"):
        bundled.text("partial")
    with pytest.raises(AttributeError, match="no 'depth'"):
        _ = bundled.config.depth


def test_threads_have_trajectories_of_their_own(bundled):
    want = denoise(bundled.new_session(), timesteps=TIMESTEPS)
    with ThreadPoolExecutor(2) as pool:
        runs = list(pool.map(lambda _: denoise(bundled, timesteps=TIMESTEPS), range(4)))
    assert all(is_same(run, want) for run in runs)


def test_a_trajectory_that_breaks_off_is_refused_as_in_the_module(bundled):
    session = bundled.new_session()
    session(**step_inputs(noise(), 900, labels()))
    with pytest.raises(TrajectoryError, match="batch"):
        session(**step_inputs(noise(3), 800, labels(3)))


def test_results_have_no_gradients_and_nothing_runs_twice_for_them(bundled):
    x = noise().requires_grad_()
    assert not bundled.new_session()(**step_inputs(x, 900, labels())).sample.requires_grad


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (step_inputs(noise(size=12), 900, labels()), "no graphs for calls of this form"),
        (step_inputs(noise().double(), 900, labels()), "no graphs for calls of this form"),
        ({**step_inputs(noise(), 900, labels()), "return_dict": False}, "with return_dict left out; .* has it = False"),
    ],
)
def test_a_call_of_another_form_is_refused(bundled, call, message):
    with pytest.raises(BundleError, match=message):
        bundled.new_session()(**call)


@pytest.mark.parametrize("backend", ["eager", "inductor", "onnx_runtime"])
def test_a_backend_that_cannot_run_a_bundle_is_refused(bundle, backend):
    with pytest.raises(MethodError, match="backend"):
        fc.load(bundle, backend=backend)


@pytest.mark.skipif(torch.cuda.is_available(), reason="the provider may be there")
def test_a_provider_that_is_not_there_is_no_other_provider(bundle):
    with pytest.raises(EngineError, match="provider 'cuda' was asked for"):
        fc.load(bundle, provider="cuda")


def test_an_unknown_provider_is_refused_with_those_there_are(bundle):
    with pytest.raises(MethodError, match="'cpu', 'cuda'"):
        fc.load(bundle, provider="rocm")


def test_an_option_of_another_type_is_refused(bundle):
    with pytest.raises(MethodError, match=r"profile= is a folder(.|\n)*Pass a folder's path"):
        fc.load(bundle, profile=True)  # type: ignore[arg-type]
    with pytest.raises(MethodError, match="single_graph= is True or False"):
        fc.load(bundle, single_graph="no")  # type: ignore[arg-type]


def test_profiles_are_written_to_a_folder_or_not_at_all(bundle, tmp_path):
    session = fc.load(bundle, threads=1, profile=tmp_path / "made" / "profiles")
    session(**step_inputs(noise(), 900, labels()))
    assert {path.parent for path in session.finish_profiles()} == {tmp_path / "made" / "profiles"}
    (tmp_path / "taken").write_text("mine")
    with pytest.raises(EngineError, match="profiles cannot be written"):
        fc.load(bundle, profile=tmp_path / "taken")


def test_training_a_bundle_is_refused(bundled):
    assert bundled.eval() is bundled
    with pytest.raises(BundleError, match="no weights to train"):
        bundled.train()


def test_a_bundle_with_its_live_backend_name_points_to_export():
    with pytest.raises(fc.LoweringError, match="export"):
        fc.optimize(torch.nn.Linear(2, 2).eval(), "FORA", num_steps=9, backend="onnxruntime")


def test_the_single_graph_evaluates_one_branch_alone(stacked, bundle, tmp_path):
    counts = []
    for steps in (1, 2, 4):
        session = fc.load(bundle, threads=1, single_graph=True, profile=tmp_path)
        want = denoise(stacked.new_session(), timesteps=TIMESTEPS[:steps])
        assert distance(denoise(session, timesteps=TIMESTEPS[:steps]), want) < ROUNDING
        (profile,) = session.finish_profiles()  # of the one graph
        events = json.loads(profile.read_text())
        products = sum(event.get("args", {}).get("op_name") == "MatMul" for event in events)
        counts.append((products, sum(step < steps for step in stacked.schedule)))
    (first, _), (_, _), (last, computed) = counts
    assert computed < 4, "some of the steps are cached"
    assert counts == [(first * done, done) for _, done in counts[:2]] + [counts[2]]
    assert last - first * computed < first / 2, "the cached steps together ran less than half of one computed step"


def test_a_loop_of_the_bundle_is_compared_with_the_module_output_by_output(stacked, bundle):
    call = step_inputs(noise(), 500, labels())
    found = compare_bundle(stacked, bundle, call, num_steps=9)
    assert [each.graphs for each in found] == ["a graph for each mode", "one graph with an If"]
    assert all(each.is_met and each.worst < ROUNDING for each in found)
    other = fc.optimize(tiny_dit(seed=1), stacked.method, num_steps=9, example_inputs=call)
    assert not any(each.is_met for each in compare_bundle(other, bundle, call, num_steps=9))
    with pytest.raises(PreconditionError, match="no trajectory can"):
        compare_bundle(stacked, bundle, {}, num_steps=9)
