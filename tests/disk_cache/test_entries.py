"""Captures on disk: what one process kept, another finds, whole; what cannot be kept is not, and said."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import fouriercache as fc
from fouriercache.assembly import Assembled
from fouriercache.calls import Binder
from fouriercache.capture import Capture, capture
from fouriercache.disk_cache import CaptureCache
from fouriercache.disk_cache.entries import read_entry, write_entry
from fouriercache.live_weights import with_weights
from fouriercache.optimize import CACHE_DIR
from fouriercache.passes.pipeline import build_steps
from tests import zoo
from tests.disk_cache.models import Small, dit_inputs, small_inputs
from tests.tiny import METHOD, ROUNDING, TIMESTEPS, BruteForce, denoise, distance, is_same, noise, tiny_dit

ROOT = Path(__file__).parents[2]
ONE_PROCESS = """
import sys
import torch
import fouriercache as fc
from tests.tiny import METHOD, TIMESTEPS, denoise, tiny_dit

def export(*_, **__):
    raise AssertionError("it was traced")

is_second = sys.argv[3] == "second"
if is_second:
    torch.export.export = export
fast = fc.optimize(tiny_dit(), METHOD, num_steps=len(TIMESTEPS), cache_dir=sys.argv[1])
outputs = denoise(fast)
assert fast.report.is_from_disk == is_second
torch.save((outputs, {name: fast.program(name).text() for name in ("canonical", "compute", "reuse")}), sys.argv[2])
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("captures") / "mine"


@pytest.fixture(scope="module")
def cold(folder: Path) -> fc.OptimizedModule:
    """The tiny DiT, captured and kept in `folder`."""
    fast = fc.optimize(tiny_dit(), METHOD, num_steps=len(TIMESTEPS), example_inputs=dit_inputs(), cache_dir=folder)
    assert not fast.report.is_from_disk
    return fast


@pytest.fixture
def tracing(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The models that torch.export has traced in this test."""
    traced: list[Any] = []
    export = torch.export.export

    def count(model: Any, *args: Any, **kwargs: Any) -> Any:
        traced.append(model)
        return export(model, *args, **kwargs)

    monkeypatch.setattr(torch.export, "export", count)
    return traced


def test_a_second_process_is_served_from_disk_and_gives_the_same_bits(cold, tmp_path):
    """Both are new: what a process has imported and patched is in its keys, and the tests' own has much."""
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    for which in ("first", "second"):
        command = [sys.executable, "-c", ONE_PROCESS, str(tmp_path / "captures"), str(tmp_path / "found"), which]
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, cwd=ROOT, env=os.environ | {"PYTHONPATH": path}
        )
        assert done.returncode == 0, done.stderr
        outputs, texts = torch.load(tmp_path / "found")
        assert is_same(outputs, denoise(cold.new_session()))
        assert texts == {name: cold.program(name).text() for name in texts}


def test_other_values_of_the_weights_are_found_and_right(cold, folder, tracing):
    model = tiny_dit(seed=5)
    fast = fc.optimize(model, METHOD, num_steps=len(TIMESTEPS), cache_dir=folder)
    assert distance(denoise(fast), denoise(BruteForce(model))) < ROUNDING
    assert tracing == []
    assert distance(denoise(fast, x=noise(3)), denoise(BruteForce(model), x=noise(3))) < ROUNDING  # another batch
    weights, program = model.state_dict(keep_vars=True), fast.program("canonical")
    assert program.sources
    live = with_weights(program.owner, program.attributes, program.sources)
    assert all(live[name] is weights.get(path, model.pos_embed.pos_embed) for name, path in program.sources.items())


def test_the_environment_names_the_folder_where_the_call_names_none(cold, folder, tmp_path, monkeypatch):
    def from_disk(**told: Any) -> bool:
        fast = fc.optimize(tiny_dit(), METHOD, num_steps=len(TIMESTEPS), example_inputs=dit_inputs(), **told)
        return fast.report.is_from_disk

    monkeypatch.setenv(CACHE_DIR, str(folder))
    assert from_disk()
    assert not from_disk(cache_dir=tmp_path / "other")


def test_what_is_read_back_is_rewritten_into_the_same_programs():
    model, call = zoo.build("flux")
    found = capture(model, call, verify=False)
    attributes = with_weights(model, found.program.attributes, found.program.sources)  # as they are when it is written
    found = replace(found, program=replace(found.program, attributes=attributes, owner=None))
    made = Assembled(**{field: getattr(found, field) for field in Assembled.__annotations__})
    again = read_entry(model, *write_entry(model, made))
    assert again.guards == made.guards
    method = fc.TaylorSeer(interval=3)
    want = build_steps(found, method)
    have = build_steps(Capture(**{**vars(found), **vars(again)}), method)
    for mode in ("compute", "reuse"):
        assert have.modes[mode].whole.text() == want.modes[mode].whole.text()
    assert have.outline().text() == want.outline().text()
    with torch.no_grad():
        flat = Binder(model).flatten(call).tensors
        assert is_same(again.program.module()(*flat), made.program.module()(*flat))


@pytest.mark.parametrize(
    "scale",
    [lambda _, x: 2.0 if x.sum() > 0 else 3.0, lambda model, _: 2.0 if model.blocks[0][0].weight.sum() > 0 else 3.0],
    ids=["inputs", "weights"],
)
def test_a_model_that_asks_for_values_is_not_kept(tmp_path, caplog, scale):
    caplog.set_level(logging.INFO, "fouriercache")
    capture(Small(scale), small_inputs(), cache=CaptureCache(tmp_path / "mine"))
    assert "the model asks in Python for values of tensors" in caplog.text
    assert list((tmp_path / "mine").iterdir()) == []


class Counting(Small):
    def forward(self, hidden_states: Tensor, timestep: Tensor) -> Any:
        self.calls = getattr(self, "calls", 0) + 1
        return super().forward(hidden_states, timestep)


def test_a_model_that_changes_while_it_runs_is_not_kept(tmp_path, caplog):
    caplog.set_level(logging.INFO, "fouriercache")
    capture(Counting(), small_inputs(), cache=CaptureCache(tmp_path / "mine"))
    assert "the model changed while it ran" in caplog.text


def _cut(data: bytes) -> bytes:
    return data[: len(data) // 2]


def _turn_a_bit(data: bytes) -> bytes:
    return data[:-9] + bytes([data[-9] ^ 1]) + data[-8:]


@pytest.mark.parametrize("damage", [_cut, _turn_a_bit, lambda _: b""], ids=["cut", "turned", "empty"])
def test_a_damaged_entry_is_replaced_and_said(tmp_path, caplog, damage, tracing):
    cache = CaptureCache(tmp_path / "mine")
    want = capture(Small(), small_inputs(), cache=cache)
    (path,) = (tmp_path / "mine").iterdir()
    path.write_bytes(damage(path.read_bytes()))
    have = capture(Small(), small_inputs(), cache=cache)
    assert len(tracing) == 2
    assert "damaged and will be replaced" in caplog.text
    again = capture(Small(), small_inputs(), cache=cache)
    assert len(tracing) == 2
    assert (have.is_from_disk, again.is_from_disk) == (False, True)
    assert again.program.text() == have.program.text() == want.program.text()


def test_processes_that_write_at_once_leave_one_whole_entry(tmp_path, caplog):
    model, cache = Small(), CaptureCache(tmp_path / "mine")
    found = capture(model, small_inputs())
    made = Assembled(**{field: getattr(found, field) for field in Assembled.__annotations__})
    place = cache.place(model, Binder(model).flatten(small_inputs()), ())
    assert place is not None
    writers = [threading.Thread(target=place.write, args=(made,), kwargs={"has_asked": False}) for _ in range(8)]
    for writer in writers:
        writer.start()
    while any(writer.is_alive() for writer in writers):
        place.read()
    assert len(list((tmp_path / "mine").iterdir())) == 1
    assert place.read() is not None
    assert caplog.text == ""


def test_a_folder_that_others_can_write_to_is_refused(tmp_path):
    for mode in (0o770, 0o707):
        tmp_path.chmod(mode)
        with pytest.raises(fc.CacheFolderError, match=r"(?s)can be written to by others \(mode 7.*chmod 700"):
            fc.optimize(tiny_dit(), METHOD, cache_dir=tmp_path)


def test_a_folder_in_one_that_others_can_write_to_is_refused(tmp_path):
    above = tmp_path / "shared"
    above.mkdir()
    above.chmod(0o777)
    with pytest.raises(
        fc.CacheFolderError, match=rf"(?s)is in {above}, .*\(mode 777\).*cache_dir= .*chmod go-w {above}$"
    ):
        fc.optimize(tiny_dit(), METHOD, cache_dir=above / "deep" / "mine")
    above.chmod(0o1777)
    fc.optimize(tiny_dit(), METHOD, cache_dir=above / "deep" / "mine")


def test_a_folder_that_cannot_be_made_is_refused_and_a_new_one_is_private(tmp_path, folder, cold):
    (tmp_path / "file").write_text("")
    with pytest.raises(fc.CacheFolderError, match=r"(?s)cannot be made: .*Pass cache_dir= a folder"):
        fc.optimize(tiny_dit(), METHOD, cache_dir=tmp_path / "file" / "folder")
    assert folder.stat().st_mode & 0o777 == 0o700
    assert sorted(path.suffix for path in folder.iterdir()) == [".safetensors"]
