"""Plans in a bundle: built for every graph that runs, named in the manifest with hash and facts, or not at all."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from onnx import helper

import fouriercache as fc
from fouriercache.bundle.folder import file_of, read_folder
from fouriercache.bundle.manifest import Form, Given
from fouriercache.errors import LoweringError, NotCapturedError, TargetError
from fouriercache.export import Job
from fouriercache.export.tensorrt import PlanCache, Profile, build_plans, bundle_plans, plan_facts, target_from_name
from fouriercache.export.tensorrt.bundle_plans import chosen_tokens, sizes_beside
from fouriercache.export.write_form import FormWriter
from fouriercache.onnx_files import outside_places, parse_onnx
from tests.export import models
from tests.tiny import METHOD, tiny_dit

pytestmark = [pytest.mark.trt, pytest.mark.ort]


def job_of(bundle: Path, manifest, folder: Path, **changes) -> Job:
    """The job of building engines in a copy of the bundle."""
    for path in bundle.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    job = Job(folder, manifest.forms, 9, (), lambda name: None, lambda name, share: None)
    return replace(job, **changes)


@pytest.fixture(scope="module")
def built(bundle, manifest, tmp_path_factory):
    """A copy of the bundle with plans, what was found of them, and the notices."""
    folder = tmp_path_factory.mktemp("built")
    said: list[str] = []
    shares: dict[str, list[float]] = {}
    job = job_of(
        bundle, manifest, folder,
        notice=said.append, progress=lambda name, share: shares.setdefault(name, []).append(share),
    )  # fmt: skip
    found = build_plans(target_from_name("tensorrt:sm89"), job, Profile(1, 2, 4), PlanCache(folder / "cache"))
    return folder, found, said, shares


def test_every_graph_that_a_loaded_bundle_runs_has_a_plan(built, manifest):
    _, found, said, shares = built
    parts = [mode.parts for mode in manifest.forms[0].modes]
    run = {graph.file for part in parts for graph in (part.context, part.timed, part.moving) if graph}
    assert set(found) == run
    assert said == [entry["file"] for entry in found.values()]
    assert set(shares) == set(said)


def test_what_is_said_of_a_plan_is_true_of_its_file(built):
    folder, found, _, _ = built
    for onnx, entry in found.items():
        path = folder / entry["file"]
        assert (entry["plan"]["sha256"], entry["plan"]["bytes"]) == (file_of(path).sha256, file_of(path).bytes)
        assert entry["facts"] == vars(plan_facts(path)) | {"accelerators": ("sm89",)}
        assert entry["facts"]["capturable"]
        assert entry["facts"]["host_branches"] == 0
        assert entry["plan"]["capability"] == "sm89"
        assert path.name == f"sm89.{Path(onnx).stem}.plan"


def test_a_plan_takes_and_gives_what_its_graph_does(built, manifest):
    _, found, _, _ = built
    graphs = {graph.file: graph for graph in manifest.forms[0].graphs()}
    for onnx, entry in found.items():
        assert [t["name"] for t in entry["plan"]["inputs"]] == [given.name for given in graphs[onnx].inputs]
        assert [t["name"] for t in entry["plan"]["outputs"]] == [output.graph_name for output in graphs[onnx].outputs]


def test_what_runs_for_all_steps_at_once_takes_that_batch_in_its_one_profile(built):
    _, found, _, _ = built
    for onnx, entry in found.items():
        most = 36 if ".timed." in onnx else 4
        assert tuple(map(tuple, entry["plan"]["profiles"])) == ((1, 2, most),)


def test_a_plan_holds_each_weight_of_its_graph_once(built):
    folder, found, _, _ = built
    timed = [onnx for onnx in found if ".timed." in onnx]
    assert timed
    for onnx in timed:
        places = {place.offset: place.length or 0 for place in outside_places(parse_onnx((folder / onnx).read_bytes()))}
        stored = sum(places.values())
        assert stored > 4096
        assert stored <= found[onnx]["facts"]["weight_bytes"] <= stored + 256  # a few scalars of its own


def test_a_cached_plan_is_taken_for_the_same_graph(built, bundle, manifest, tmp_path):
    folder, found, _, _ = built
    again = build_plans(
        target_from_name("tensorrt:sm89"),
        job_of(bundle, manifest, tmp_path),
        Profile(1, 2, 4),
        PlanCache(folder / "cache"),
    )
    assert again == found
    for entry in found.values():
        assert (tmp_path / entry["file"]).read_bytes() == (folder / entry["file"]).read_bytes()


def test_how_many_tokens_are_chosen_is_a_range_of_its_own(bundle, manifest, tmp_path):
    form = manifest.forms[0]
    graph = form.modes[0].parts.moving
    chosen = replace(graph, inputs=(*graph.inputs, Given("ranks_0", "control", "int64", ("chosen",))))
    sites = (replace(form.sites[0], tokens=16),)
    job = job_of(bundle, manifest, tmp_path)
    assert chosen_tokens(replace(form, sites=sites), chosen, ()) == {"chosen": (1, 8, 16)}
    assert chosen_tokens(form, chosen, [(3,), (0,), (5,), (4,)]) == {"chosen": (3, 4, 5)}
    assert chosen_tokens(form, graph, job.counts) == {}


def test_sizes_that_follow_the_batch_have_its_range(tmp_path):
    shapes: dict[str, list[int | str]] = {"x": ["batch", 4], "pair": ["2*batch", 4], "text": ["(s78//batch)", "s78"]}
    nodes = [helper.make_node("Add", ["x", "x"], ["y"])]
    onnx = models.save(tmp_path / "model.onnx", nodes, {}, **shapes, y=["batch", 4])
    assert sizes_beside(onnx, Profile(1, 2, 8)) == {"(s78//batch)": (1, 1, 1), "2*batch": (2, 4, 16), "s78": (1, 2, 8)}


@pytest.mark.parametrize(
    "target", ["tensorrt:sm90", "tensorrt:sm1", "tensorrt", "tensorrt:", "onnx:", "openvino:cpu", "", "TENSORRT:SM89"]
)
def test_a_wrong_target_is_refused_before_any_work(tmp_path, target):
    fast = fc.optimize(tiny_dit(), METHOD, num_steps=8)  # never called: asking for its graphs would say so
    with pytest.raises(TargetError):
        fc.export(fast, tmp_path / "bundle", targets=["onnx", target])
    assert list(tmp_path.iterdir()) == []


def test_a_right_target_alone_captures_nothing(tmp_path):
    with pytest.raises(NotCapturedError):
        fc.export(fc.optimize(tiny_dit(), METHOD, num_steps=8), tmp_path / "bundle", targets=["tensorrt:sm89"])


@pytest.fixture
def quick_export(bundle, manifest, tmp_path, monkeypatch):
    """Exports write again what was written to the bundle, and keep plans apart from the user's."""

    def write(writer: FormWriter, *_: object, **__: object) -> Form:
        for path in bundle.iterdir():
            if path.name != "manifest.json":
                (writer.folder / path.name).write_bytes(path.read_bytes())
        form: Form = manifest.forms[0]
        return form

    monkeypatch.setattr(FormWriter, "write", write)
    monkeypatch.setenv("FOURIERCACHE_PLANS", str(tmp_path / "cache"))


@pytest.mark.usefixtures("quick_export")
def test_a_plan_that_is_not_built_leaves_no_bundle(stacked, tmp_path, monkeypatch):
    def refuse(*_: object, **__: object) -> None:
        raise LoweringError("TensorRT-RTX does not take it.")

    monkeypatch.setattr(bundle_plans, "build_plan", refuse)
    with pytest.raises(LoweringError, match="does not take it"):
        fc.export(stacked, tmp_path / "bundle", targets=["tensorrt:sm89"])
    assert not (tmp_path / "bundle").exists()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("batches", [(2, 1, 8), (0, 1, 8), (1, 2)])
def test_batches_that_make_no_sense_are_refused_before_any_work(stacked, tmp_path, batches):
    with pytest.raises(TargetError, match="least"):
        fc.export(stacked, tmp_path / "bundle", targets=["tensorrt:sm89"], batches=batches)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("quick_export")
def test_an_export_with_a_target_is_a_bundle_whose_manifest_vouches_for_each_plan(stacked, tmp_path):
    written = fc.export(stacked, tmp_path / "bundle", targets=["onnx", "tensorrt:sm89"])
    read = read_folder(tmp_path / "bundle")
    assert read == written
    plans = read.plans["tensorrt:sm89"]
    for entry in plans.values():
        assert read.files[entry["file"]].sha256 == entry["plan"]["sha256"]
