"""`assert_graph_matches` and what it writes: it holds what is the same, and says in words what is not."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

import fouriercache as fc
from fouriercache.errors import GoldenError, NotCapturedError
from fouriercache.passes import pipeline
from fouriercache.passes.remove_dead import RemoveDead
from fouriercache.testing import GraphMismatch, assert_graph_matches, trace
from fouriercache.testing.golden import read_golden
from tests import zoo
from tests.tiny import METHOD, labels, noise, step_inputs, tiny_dit


def optimized(device: str = "cpu", depth: int = 2, method: fc.Method = METHOD) -> fc.OptimizedModule:
    """A DiT captured on a device, `meta` needs no weights."""
    model, call = zoo.BUILDERS["dit"](depth)
    moved = {name: value.to(device) for name, value in call.items()}
    return fc.optimize(model.eval().to(device), method, num_steps=8, example_inputs=moved)


@pytest.fixture(scope="module")
def small() -> fc.OptimizedModule:
    return optimized("meta", depth=3)


@pytest.fixture
def golden(small: fc.OptimizedModule, tmp_path: Path) -> Path:
    path = tmp_path / "deep" / "golden.txt"
    assert assert_graph_matches(small, path, update=True, spec="mine:build")
    return path


def message(subject: Any, path: Path) -> str:
    with pytest.raises(GraphMismatch) as caught:
        assert_graph_matches(subject, path)
    return str(caught.value)


def test_holds_what_was_written_and_writes_nothing_more(small: fc.OptimizedModule, golden: Path):
    before = golden.stat().st_mtime_ns
    assert not assert_graph_matches(small, golden)
    assert not assert_graph_matches(small, golden, update=True)
    assert golden.stat().st_mtime_ns == before
    assert [path.name for path in golden.parent.iterdir()] == ["golden.txt"]


def test_is_the_same_with_weights_and_on_the_meta_device(golden: Path):
    assert not assert_graph_matches(optimized("cpu", depth=3), golden)


def test_is_the_same_in_a_process_with_another_hash_seed(golden: Path):
    code = (
        "import sys; from tests.testing.test_goldens_of_graphs import optimized;"
        "from fouriercache.testing import assert_graph_matches; assert_graph_matches(optimized('meta', 3), sys.argv[1])"
    )
    root = Path(__file__).parents[2]
    environment = {**os.environ, "PYTHONHASHSEED": "7", "PYTHONPATH": str(root)}
    subprocess.run([sys.executable, "-c", code, str(golden)], check=True, cwd=root, env=environment)


def test_reads_back_what_it_writes(golden: Path):
    assert read_golden(golden).text() == golden.read_text()


def test_folds_blocks_that_do_the_same_and_counts_by_depth(golden: Path):
    found = read_golden(golden)
    assert found.head["model"] == "DiTTransformer2DModel"
    assert found.head["counted for"] == "f32[2,3,8,8]"
    assert found.sections["sites"].facts["in use"] == "3 attention, 3 mlp"
    compute = found.sections["compute"]
    assert "transformer_blocks (" in compute.facts["launches"]
    assert " + 2 x " in compute.facts["launches"]
    titles = [title for title in compute.parts if title.startswith("transformer_blocks.1-2#1: 2 x ")]
    assert compute.parts[titles[0]][-1] == "as in transformer_blocks.0#1"
    # six values of [2, 16, 16] in f32 are kept
    assert compute.facts["kept features"] == f"0 bytes read, {6 * 2 * 16 * 16 * 4:,} bytes written"
    assert found.sections["sites"].facts["kept"].startswith(f"{2 * 6 * 2 * 16 * 16 * 4:,} bytes")


def test_a_missing_golden_is_not_made_without_being_asked(small: fc.OptimizedModule, tmp_path: Path):
    text = message(small, tmp_path / "golden.txt")
    assert "There is no golden" in text
    assert "update=True" in text
    assert not (tmp_path / "golden.txt").exists()


def test_a_pass_that_is_gone_shows_in_words(golden: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(pipeline, "NarrowLinear", RemoveDead)
    text = message(optimized("meta", depth=3), golden)
    words, _, diff = text.partition("\n\n")
    # six modulations are computed, of which two are read: 4 of 6 times 16 x 96 weights of f32, and their biases
    assert "reuse: FLOPs " in words
    assert f"({2 * 2 * 16 * 96 * 4 // 6 * 3:+,})" in words
    assert "reuse: weights read" in words
    assert "reuse: transformer_blocks.0#0 reads otherwise" in words
    assert "reuse: calls of chunk.default 1 -> 4, getitem " in words
    assert "compute:" not in words
    added = [line for line in diff.splitlines() if line.startswith("+") and "linear.default" in line]
    assert any("f32[s0,96] = linear.default(" in line and "@.norm1.linear.weight" in line for line in added)
    assert text.endswith("If this is meant: pass update=True once, and look at the difference")


def test_a_deeper_model_shows_as_more_sites_and_launches(golden: Path):
    words = message(optimized("meta", depth=4), golden).partition("\n\n")[0]
    assert "sites: in use 3 attention, 3 mlp -> 4 attention, 4 mlp (+1)" in words
    assert "compute: transformer_blocks.1-2#0, transformer_blocks.1-2#1 are gone" in words
    assert "compute: transformer_blocks.1-3#0, transformer_blocks.1-3#1 are new" in words


def test_another_method_is_named(golden: Path):
    words = message(optimized("meta", depth=3, method=METHOD.with_(site="stack")), golden).partition("\n\n")[0]
    assert "method Method(name='TaylorSeer', site='branch'" in words
    assert "sites: in use 3 attention, 3 mlp -> 1 stack (-2)" in words


def test_a_long_difference_is_cut(tmp_path: Path):
    x = torch.zeros(2)
    short, long = trace(lambda x: x.sin(), x), trace(lambda x: [x := x.sin().cos() for _ in range(60)][-1], x)
    assert_graph_matches(short, tmp_path / "golden.txt", update=True)
    text = message(long, tmp_path / "golden.txt")
    assert len(text.splitlines()) < 100
    assert "more lines; after an update, git diff shows them all" in text


def test_an_update_keeps_how_the_model_is_built(golden: Path):
    assert assert_graph_matches(optimized("meta", depth=2), golden, update=True)
    assert read_golden(golden).head["spec"] == "mine:build"


def test_where_a_golden_comes_from_is_not_compared(small: fc.OptimizedModule, golden: Path):
    text = golden.read_text()
    golden.write_text(text.replace("spec: mine:build", "spec: other").replace("torch 2", "torch 1"))
    assert not assert_graph_matches(small, golden)
    golden.write_text(golden.read_text().replace("steps: 8", "steps: 9"))
    assert "the golden was made with torch 1" in message(small, golden)


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("", "is no golden: its first line"),
        ("main(%0: f32[2])\n", "is no golden: its first line"),
        ("fouriercache graphs, version 99\n", "is of version 99, this release reads version 1"),
        ("fouriercache graphs, version 1\nmodel: x\n\n[sites]\nhalf a li", "line 5 is neither"),
    ],
)
def test_refuses_what_is_no_golden(text: str, error: str, small: fc.OptimizedModule, tmp_path: Path):
    path = tmp_path / "golden.txt"
    path.write_text(text)
    with pytest.raises(GoldenError, match=error):
        assert_graph_matches(small, path)
    assert assert_graph_matches(small, path, update=True)
    assert not assert_graph_matches(small, path)


def test_refuses_a_folder_and_bytes_that_are_no_text(small: fc.OptimizedModule, tmp_path: Path):
    with pytest.raises(GoldenError, match="cannot be read: Is a directory"):
        assert_graph_matches(small, tmp_path)
    (tmp_path / "golden.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(GoldenError, match="cannot be read: it is no text"):
        assert_graph_matches(small, tmp_path / "golden.txt")


def test_a_golden_that_cannot_be_written_is_an_error_of_ours(small: fc.OptimizedModule, tmp_path: Path):
    (tmp_path / "taken").write_text("mine")
    with pytest.raises(GoldenError, match="cannot be written"):
        assert_graph_matches(small, tmp_path / "taken" / "golden.txt", update=True)


def test_needs_something_captured(tmp_path: Path):
    with pytest.raises(NotCapturedError, match="nothing has been captured"):
        assert_graph_matches(fc.optimize(tiny_dit(), METHOD, num_steps=8), tmp_path / "golden.txt")


def test_refuses_a_model_that_was_not_optimised(tmp_path: Path):
    with pytest.raises(GoldenError, match="a DiTTransformer2DModel has no rewritten graphs"):
        assert_graph_matches(tiny_dit(), tmp_path / "golden.txt")


def test_an_input_of_another_size_gives_another_golden(golden: Path):
    model = tiny_dit(size=16)
    fast = fc.optimize(model, METHOD, num_steps=8, example_inputs=step_inputs(noise(size=16), 900, labels()))
    assert "counted for f32[2,3,8,8] -> f32[2,3,16,16]" in message(fast, golden)
