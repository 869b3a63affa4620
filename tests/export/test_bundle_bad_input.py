"""Bundles that were cut, changed, linked, forged or never finished: each is refused by name, and nothing is loaded."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import fouriercache as fc
from fouriercache.bundle.folder import file_of, staged
from fouriercache.bundle.manifest import Manifest, read_manifest
from fouriercache.errors import (
    BundleError,
    CaptureError,
    EngineError,
    LoweringError,
    MethodError,
    NotCapturedError,
    OptimizeError,
    TargetError,
)
from tests.tiny import labels, noise, step_inputs, tiny_dit

pytestmark = pytest.mark.ort
CALL = step_inputs(noise(), 500, labels())


@pytest.fixture
def copy(bundle: Path, tmp_path: Path) -> Path:
    return shutil.copytree(bundle, tmp_path / "copy")


def sign(folder: Path, change) -> None:
    """Change the manifest as someone would who knows how it is made: sizes and digests are right again."""
    content = json.loads((folder / "manifest.json").read_text())
    content["files"] |= {name: vars(file_of(folder / name)) for name in content["files"] if (folder / name).is_file()}
    change(content)
    content.pop("digest")
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    digest = hashlib.sha256(text.encode()).hexdigest()
    (folder / "manifest.json").write_text(json.dumps({**content, "digest": digest}))


def edit_graph(folder: Path, change) -> None:
    import onnx

    path = folder / "reuse.moving.onnx"
    model = onnx.load(path, load_external_data=False)
    change(model)
    path.write_bytes(model.SerializeToString())
    sign(folder, lambda content: None)


def test_a_byte_that_changed_in_any_file_is_found(copy):
    for path in sorted(copy.iterdir()):
        content = path.read_bytes()
        path.write_bytes(bytes([content[0] ^ 1]) + content[1:])
        with pytest.raises(BundleError):
            fc.load(copy)
        path.write_bytes(content)


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_flipped_bit_anywhere_changes_nothing_or_is_refused(data, bundle, manifest, tmp_path):
    names = sorted(path.name for path in bundle.iterdir())
    name = data.draw(st.sampled_from([*names, "manifest.json", "manifest.json"]))
    content = bytearray((bundle / name).read_bytes())
    content[data.draw(st.integers(0, len(content) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    folder = tmp_path / "flipped"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(bundle, folder)
    (folder / name).write_bytes(content)
    try:
        loaded = fc.load(folder, threads=1)
    except OptimizeError:
        return
    assert loaded.manifest == manifest
    with torch.no_grad():
        want = fc.load(bundle, threads=1)(**CALL).sample
        assert torch.equal(loaded(**CALL).sample, want)


@pytest.mark.parametrize("name", ["manifest.json", "weights.bin", "compute.moving.onnx", "compute.txt"])
def test_a_file_that_is_missing_or_cut_is_refused_by_name(copy, name):
    path = copy / name
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(BundleError, match="manifest" if name == "manifest.json" else name):
        fc.load(copy)
    path.unlink()
    with pytest.raises(BundleError, match=name):
        fc.load(copy)


@pytest.mark.parametrize("link", [os.symlink, os.link])
@pytest.mark.parametrize("name", ["manifest.json", "weights.bin", "reuse.moving.onnx"])
def test_a_linked_file_is_refused(copy, tmp_path, link, name):
    shutil.move(copy / name, tmp_path / "elsewhere")
    link(tmp_path / "elsewhere", copy / name)
    with pytest.raises(BundleError, match="link"):
        fc.load(copy)


@pytest.mark.parametrize("name", ["../weights.bin", "/etc/hostname", "sub/weights.bin", ".hidden", ""])
def test_a_name_that_leaves_the_folder_is_refused(copy, name):
    (copy.parent / "weights.bin").write_bytes(b"x")
    sign(copy, lambda content: content["files"].update({name: content["files"]["weights.bin"]}))
    with pytest.raises(BundleError, match="own folder"):
        fc.load(copy)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda content: content.update(schema=2), "Upgrade fouriercache"),
        (lambda content: content.update(schema=0), "Export it again"),
        (lambda content: content.update(schema=True), "schema True"),
        (lambda content: content.update(kind="model"), "not that of a fouriercache bundle"),
        (lambda content: content.update(more=1), "has the entries"),
        (lambda content: content.update(forms=[]), "no graphs"),
        (lambda content: content["files"].pop("reuse.moving.onnx"), "no checksum for reuse.moving.onnx"),
        (lambda content: content["method"].update(type="os.system"), "does not know"),
        (lambda content: content["trajectory"].update(num_steps="9"), "trajectory.num_steps"),
        (lambda content: content["parameters"][0].update(kind="star"), "signature"),
        (lambda content: content["forms"][0]["call"].update(guards=["__import__('os')"]), "no expression"),
        (lambda content: content["forms"][0]["call"].update(guards=["batch.real"]), "no expression"),
        (lambda content: content["forms"][0].pop("slots"), "lacks slots"),
        (lambda content: content["model"].update(dtype="bfloat16"), "CPU provider has no bfloat16"),
        (lambda content: content["model"].update(dtype="Tensor"), "does not know"),
    ],
)
def test_a_forged_manifest_is_refused_whatever_its_digest(copy, change, message):
    sign(copy, change)
    with pytest.raises((BundleError, EngineError), match=message):
        fc.load(copy)(**CALL)


def test_a_graph_that_reads_another_file_is_refused(copy):
    def change(model):
        weight = next(weight for weight in model.graph.initializer if weight.external_data)
        next(entry for entry in weight.external_data if entry.key == "location").value = "../weights.bin"

    edit_graph(copy, change)
    with pytest.raises(BundleError, match=r"reads a weight from '../weights.bin'"):
        fc.load(copy)


def test_a_graph_that_reads_behind_the_weights_is_refused(copy):
    def change(model):
        weight = next(weight for weight in model.graph.initializer if weight.external_data)
        next(entry for entry in weight.external_data if entry.key == "offset").value = str(2**40)

    edit_graph(copy, change)
    with pytest.raises(BundleError, match="behind the end"):
        fc.load(copy)


def test_a_graph_with_operators_of_its_own_is_refused(copy):
    edit_graph(copy, lambda model: model.opset_import.add(domain="evil", version=1))
    with pytest.raises(BundleError, match="not ONNX's own"):
        fc.load(copy)


def test_a_graph_with_other_inputs_than_the_manifest_says_is_refused(copy):
    def change(content):
        for mode in content["forms"][0]["modes"]:
            mode["parts"]["moving"]["inputs"].reverse()

    sign(copy, change)
    with pytest.raises(EngineError, match="where the manifest says"):
        fc.load(copy)


def test_what_is_no_bundle_is_refused(tmp_path):
    with pytest.raises(BundleError, match="no folder"):
        fc.load(tmp_path / "nowhere", profile=tmp_path / "profiles")
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(BundleError, match="None is no path"):
        fc.load(None)  # type: ignore[arg-type]
    with pytest.raises(BundleError, match="no manifest"):
        fc.load(tmp_path)
    for text in ("{", '{"kind": 1, "kind": 2}', '{"kind": NaN}', "[" * 100_000, "[]"):
        (tmp_path / "manifest.json").write_text(text)
        with pytest.raises(BundleError, match="manifest"):
            fc.load(tmp_path)
    with pytest.raises(BundleError, match=rf"given by its folder.\n  Give {tmp_path}"):
        fc.load(tmp_path / "manifest.json")


def test_an_export_leaves_alone_what_is_no_bundle(stacked, tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(BundleError, match="left as it is"):
        fc.export(stacked, tmp_path)
    with pytest.raises(BundleError, match="no folder"):
        fc.export(stacked, tmp_path / "thesis.tex")
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_full_disk_leaves_nothing_and_an_older_bundle_as_it_was(stacked, copy, monkeypatch):
    before = {path.name: path.read_bytes() for path in copy.iterdir()}

    def full(self, content):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self))

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(BundleError, match="no space left"):
        fc.export(stacked, copy, single_graph=False)
    assert {path.name: path.read_bytes() for path in copy.iterdir()} == before
    assert [path.name for path in copy.parent.iterdir()] == ["copy"]


def test_a_bundle_takes_the_place_of_an_older_one_whole(copy):
    with staged(copy) as stage:
        (stage / "manifest.json").write_text((copy / "manifest.json").read_text())
    assert [path.name for path in copy.iterdir()] == ["manifest.json"]
    assert [path.name for path in copy.parent.iterdir()] == ["copy"]


def test_an_export_that_is_killed_leaves_no_bundle_and_the_older_one_whole(bundle, copy, tmp_path):
    script = f"""
import sys, time
from pathlib import Path
from fouriercache.bundle.folder import staged
with staged(Path({str(copy)!r})) as stage:
    for path in Path({str(bundle)!r}).iterdir():
        if path.name != "manifest.json":
            (stage / path.name).write_bytes(path.read_bytes())
    print(stage, flush=True)
    time.sleep(60)
"""
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        stage = Path(process.stdout.readline().strip())
        with staged(copy) as other:
            assert (stage / "weights.bin").is_file(), "an export that goes on keeps its folder"
            shutil.copytree(copy, other, dirs_exist_ok=True)
        process.send_signal(signal.SIGKILL)
    with pytest.raises(BundleError, match="broken off"):
        fc.load(stage)
    assert fc.load(copy, threads=1).manifest == read_manifest((bundle / "manifest.json").read_text())
    with staged(copy) as other:
        assert not stage.exists(), "the next export removes what is left of one that was killed"
        shutil.copytree(bundle, other, dirs_exist_ok=True)
    assert list(tmp_path.iterdir()) == [copy]


def test_an_export_without_anything_to_export_says_what_is_missing(tmp_path):
    fast = fc.optimize(tiny_dit(), "FORA", num_steps=9)
    with pytest.raises(NotCapturedError, match="example_inputs"):
        fc.export(fast, tmp_path / "bundle")
    with pytest.raises(BundleError, match=r"optimize\(\)"):
        fc.export(fast.model, tmp_path / "bundle")  # type: ignore[arg-type]
    with pytest.raises(TargetError, match="no target called 'onx'"):
        fc.export(fast, tmp_path / "bundle", targets=["onx"])
    for targets in ("onnx", None, [None], 3):
        with pytest.raises(TargetError, match="a list of targets' names"):
            fc.export(fast, tmp_path / "bundle", targets=targets)  # type: ignore[arg-type]
    for batches in (4, "1,2,8", (1, 2), (8, 2, 1), (1, 2, 2**40)):
        with pytest.raises(TargetError, match=r"least(,| <=) typical"):
            fc.export(fast, tmp_path / "bundle", batches=batches)  # type: ignore[arg-type]
    for calls in (None, 3):
        with pytest.raises(CaptureError, match="one call's keyword arguments, or a list"):
            fc.export(fast, tmp_path / "bundle", example_inputs=calls)  # type: ignore[arg-type]
    with pytest.raises(MethodError, match="single_graph= is True or False"):
        fc.export(fast, tmp_path / "bundle", single_graph="no")  # type: ignore[arg-type]
    for path in (None, 3):
        with pytest.raises(BundleError, match="is no path"):
            fc.export(fast, path)  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []


def test_a_model_without_values_is_not_exported(tmp_path):
    fast = fc.optimize(tiny_dit().to("meta"), "FORA", num_steps=9)
    with pytest.raises(LoweringError, match="no values"):
        fc.export(fast, tmp_path / "bundle", example_inputs={key: value.to("meta") for key, value in CALL.items()})


def test_weights_that_changed_since_the_capture_are_the_ones_exported(manifest: Manifest, tmp_path):
    model = tiny_dit(layers=1)
    fast = fc.optimize(model, fc.FORA(3, site="stack"), num_steps=9, example_inputs=CALL)
    model.proj_out_2.bias = torch.nn.Parameter(model.proj_out_2.bias.detach() + 1)
    fc.export(fast, tmp_path / "bundle", single_graph=False)
    with torch.no_grad():
        have, want = fc.load(tmp_path / "bundle", threads=1)(**CALL).sample, model(**CALL).sample
    torch.testing.assert_close(have, want, rtol=1e-4, atol=1e-5)
    assert fc.load(tmp_path / "bundle").manifest.model.weights != manifest.model.weights
