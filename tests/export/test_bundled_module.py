"""A loaded bundle as a module: what pipelines ask of one, copies, and what would do nothing if it were not refused."""

from __future__ import annotations

import pickle
import shutil
from collections.abc import Callable
from copy import copy, deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import fouriercache as fc
from fouriercache.bundle.manifest import Manifest
from fouriercache.errors import BundleError, CaptureError
from tests.tiny import ROUNDING, denoise, distance, labels, noise, step_inputs

pytestmark = pytest.mark.ort
CALL = step_inputs(noise(), 500, labels())


@pytest.fixture(scope="module")
def bundled(bundle: Path) -> fc.BundledModule:
    return fc.load(bundle, threads=1)


def test_pipelines_find_its_dtype_and_device_and_move_it_to_where_it_is(bundled):
    first = next(bundled.parameters())
    assert (first.dtype, first.device) == (bundled.dtype, bundled.device) == (torch.float32, torch.device("cpu"))
    assert sum(weight.numel() for weight in bundled.parameters()) == 0
    for moved in (bundled.to("cpu", torch.float32), bundled.float(), bundled.cpu(), bundled.requires_grad_(False)):
        assert moved is bundled


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda module: module.half(), r"made torch.float16.\n  where: .*float32\n  Give it torch.float32 inputs"),
        (lambda module: module.to(torch.bfloat16), r"export model.to\(torch.bfloat16\)"),
        (lambda module: nn.Sequential(module).double(), "made torch.float64"),
        (
            lambda module: module.to("meta"),
            r"meta is another device .*\n  where: .*, on cpu\n  Load it for that device",
        ),
        (
            lambda module: nn.Sequential(module).to("xpu:63"),
            r"moved: torch refuses that: .*\n  where: .*, on cpu\n  Load",
        ),
        (lambda module: module.cuda(63), r"moved: torch refuses that: .*\n  where: .*, on cpu\n  Load"),
        (lambda module: module.to("gpu"), r"moved: torch refuses that: .*\n  where: .*, on cpu\n  Load"),
        (lambda module: module.to(torch.int8), "moved: torch refuses that: .* floating point"),
        (lambda module: module.requires_grad_(), "no weights to train"),
        (lambda module: module.state_dict(), "copy its folder"),
        (lambda module: nn.Sequential(module).state_dict(), "copy its folder"),
        (lambda module: module.load_state_dict({"a": torch.ones(1)}, strict=False), "cannot be changed"),
        (lambda module: module.save_pretrained("saved"), "copy its folder"),
    ],
)
def test_what_it_cannot_do_is_refused_and_never_passed_over(bundled, ask: Callable[[Any], object], message: str):
    with pytest.raises(BundleError, match=message):
        ask(bundled)


@pytest.mark.parametrize("again", [copy, deepcopy, lambda module: pickle.loads(pickle.dumps(module))])
def test_a_copy_has_the_same_graphs_and_requests_of_its_own(bundled, again: Callable[[Any], Any]):
    bundled.reset()
    with torch.no_grad():
        want = bundled(**CALL).sample
        other = again(bundled)
        assert torch.equal(other(**CALL).sample, want)
        bundled(**step_inputs(noise(), 400, labels()))
    assert (other.session.computed_steps, bundled.session.computed_steps) == ({0: (0,)}, {0: (0, 1)})
    bundled.reset()


def test_a_pickle_is_not_of_a_bundle_that_came_later(bundle: Path, manifest: Manifest, tmp_path: Path):
    folder = shutil.copytree(bundle, tmp_path / "copy")
    kept = pickle.dumps(fc.load(folder, threads=1))
    (folder / "manifest.json").write_text(replace(manifest, versions={"torch": "0"}).text())
    with pytest.raises(BundleError, match="not the one that was pickled"):
        pickle.loads(kept)


def test_torch_compile_leaves_it_alone_and_no_tracer_keeps_one_step(bundled):
    with torch.no_grad():
        want = bundled.new_session()(**CALL).sample
        torch._dynamo.utils.counters.clear()
        assert torch.equal(torch.compile(deepcopy(bundled))(**CALL).sample, want)
    assert not torch._dynamo.utils.counters["stats"]["unique_graphs"]
    with pytest.raises(CaptureError, match="ONNX already"):
        torch.export.export(bundled, (), CALL)


def test_its_sessions_may_have_another_number_of_steps_unless_that_needs_other_graphs(bundled, stacked, monkeypatch):
    session, steps = bundled.new_session(num_steps=5), (900, 700, 500, 300, 100)
    found = denoise(session, timesteps=steps)
    assert session.computed_steps[0] == stacked.method.schedule.steps(5)
    assert distance(found, denoise(stacked.new_session(num_steps=5), timesteps=steps)) < ROUNDING
    by_site = stacked.method.with_(schedule=fc.PerSite((2,)))
    monkeypatch.setattr(bundled, "rules", replace(bundled.rules, method=by_site))
    assert bundled.new_session().num_steps == bundled.new_session(num_steps=9).num_steps == 9
    with pytest.raises(BundleError, match=r"(?s)of those that 9 steps have.*num_steps=5"):
        bundled.new_session(num_steps=5)
