"""`~` in a path is the user's home, wherever a user gives one: pathlib would make a folder of that name."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

import fouriercache as fc
from fouriercache.cli.app import app
from fouriercache.errors import BundleError, CacheFolderError, PathError
from fouriercache.export.tensorrt import PlanCache
from fouriercache.export.triton import export_triton
from fouriercache.testing import assert_graph_matches
from tests.calibration.test_files import MADE
from tests.tiny import tiny_dit

PACKAGE = Path(fc.__file__).parent
ROOT = PACKAGE.parent


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    found = tmp_path / "home"
    found.mkdir()
    (found / "taken").write_text("a file where a folder is asked for")
    monkeypatch.setenv("HOME", str(found))
    monkeypatch.chdir(tmp_path)
    return found


def test_every_place_that_takes_a_path_looks_in_the_home(home: Path, monkeypatch: pytest.MonkeyPatch):
    MADE.save("~/made.safetensors")
    assert (home / "made.safetensors").is_file()
    assert fc.Calibration.load("~/made.safetensors") == MADE
    for read in (fc.load, lambda path: export_triton(path, "~/triton"), lambda path: assert_graph_matches(path, "~/g")):
        with pytest.raises(BundleError, match=f"{home}/nowhere"):
            read("~/nowhere")
    with pytest.raises(CacheFolderError, match=f"{home}/taken"):
        fc.optimize(tiny_dit(), "FORA", num_steps=9, cache_dir="~/taken")
    monkeypatch.setenv("FOURIERCACHE_PLANS", "~/plans")
    assert PlanCache().folder == home / "plans"
    assert "~/taken is a file" in CliRunner().invoke(app, ["inspect", "~/taken"]).output
    for words in (["export", "--out=~/taken"], ["check", "~/taken"], ["demo", "--out=~/taken"]):
        result = CliRunner().invoke(app, words, env={"COLUMNS": "400", "NO_COLOR": "1"})
        assert result.exit_code == 2, result.output
        assert f"{home}/taken" in result.output
    assert sorted(path.name for path in home.parent.iterdir()) == ["home"]


@pytest.mark.parametrize("path", ["", "a\0b", "a" * 300, "a\udcff", "home/loop/x", 3, b"bytes"])
def test_what_no_file_can_be_called_is_refused_as_a_path(path, home: Path):
    (home / "loop").symlink_to("loop")
    for take in (fc.Calibration.load, MADE.save, lambda path: fc.optimize(tiny_dit(), "FORA", cache_dir=path)):
        with pytest.raises(PathError, match=r"path[^\n]*\n(.|\n)*  (Pass|Give) "):
            take(path)
    assert list(home.parent.iterdir()) == [home]


def plain_paths(tree: ast.Module) -> Iterator[int]:
    """The lines at which a parameter that may be text becomes a path by pathlib alone."""
    for function in ast.walk(tree):
        if isinstance(function, ast.FunctionDef):
            given = [*function.args.args, *function.args.kwonlyargs]
            texts = {one.arg for one in given if one.annotation and "str" in ast.unparse(one.annotation)}
            for call in ast.walk(function):
                if isinstance(call, ast.Call) and ast.unparse(call.func) == "Path" and ast.unparse(call) != "Path()":
                    yield from [call.lineno] if ast.unparse(call.args[0]) in texts else []


def plain_options(tree: ast.Module) -> Iterator[int]:
    """The lines at which a command takes a path as it was typed."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Subscript) and (text := ast.unparse(node)).startswith("Annotated[") and "Path" in text:
            yield from [] if "parser=path_of" in text else [node.lineno]


def test_no_path_of_a_user_is_taken_as_it_was_written():
    found = [
        f"{path.relative_to(ROOT)}:{line}"
        for path in sorted(PACKAGE.rglob("*.py"))
        for tree in [ast.parse(path.read_text())]
        for line in [*plain_paths(tree), *plain_options(tree)]
    ]
    assert found == []
    fault = "def f(a: str | Path): return Path(a)\ndef g(a: Annotated[Path, Option(help='')]): ..."
    assert [*plain_paths(ast.parse(fault)), *plain_options(ast.parse(fault))] == [1, 2]
