"""House rules of passes, on their sources: one file, one rewrite; the contract in the docstring; edits through edit.py.

What a pass does to graphs is held elsewhere: by the base class in check mode, and by tests/passes.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PASSES = "fouriercache/passes"
TESTS = "tests/passes"

LONGEST_PASS = 150
LONG_PASSES: dict[str, str] = {}
"""Pass files that may be longer, each with what came of looking for two passes in it."""

SECTIONS = ("Before:", "After:", "Requires:", "Keeps:", "Error:")
EDITS = {"replace_all_uses_with", "replace_input_with", "inserting_before", "inserting_after"} | {
    "create_node",
    "call_function",
    "call_module",
    "call_method",
    "get_attr",
    "placeholder",
}
"""Methods of fx that only edit.py and copies.py call: they copy metadata, and keep a value from reading itself."""


def find_passes(root: Path) -> Iterator[tuple[str, ast.ClassDef]]:
    """Yield (file name, class) of every concrete pass; the base classes live in base.py."""
    for path in sorted((root / PASSES).glob("*.py")):
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.ClassDef) and path.name != "base.py" and has_base(node, "Pass"):
                yield path.name, node


def has_base(node: ast.ClassDef, name: str) -> bool:
    return any(ast.unparse(base).split(".")[-1] == name for base in node.bases)


def file_name(class_name: str) -> str:
    """Return the file named after a class: CompressFFT lives in compress_fft.py."""
    return "_".join(re.findall(r"[A-Z]+(?![a-z])|[A-Z][a-z0-9]*", class_name)).lower() + ".py"


def is_frozen_dataclass(node: ast.ClassDef) -> bool:
    return any(ast.unparse(decorator) == "dataclass(frozen=True)" for decorator in node.decorator_list)


def find_faults(root: Path) -> list[str]:
    """Return one sentence for each pass, or file of passes, that breaks a rule."""
    faults = []
    seen: set[str] = set()
    for file, node in find_passes(root):
        if file in seen:
            faults.append(f"{file} holds a second pass, {node.name}: one file, one rewrite")
        elif file != file_name(node.name):
            faults.append(f"{file} holds {node.name}: it belongs in {file_name(node.name)}")
        elif not (root / TESTS / f"test_{file}").is_file():
            faults.append(f"{node.name} has no test file {TESTS}/test_{file}")
        seen.add(file)
        if not is_frozen_dataclass(node):
            faults.append(f"{node.name} is not decorated with @dataclass(frozen=True)")
        missing = [section for section in SECTIONS if section not in (ast.get_docstring(node) or "")]
        if missing:
            faults.append(f"{node.name} does not say {' '.join(missing)} in its docstring")
    return faults + find_long_passes(root, seen) + find_direct_edits(root)


def find_long_passes(root: Path, files: set[str]) -> list[str]:
    lengths = {file: len((root / PASSES / file).read_text().splitlines()) for file in files}
    long = {file for file, length in lengths.items() if length > LONGEST_PASS}
    return [
        *(f"{file} has {lengths[file]} lines: look for two passes" for file in sorted(long - LONG_PASSES.keys())),
        *(f"{file} is allowed to be long and is not" for file in sorted((LONG_PASSES.keys() & files) - long)),
    ]


def find_direct_edits(root: Path) -> list[str]:
    return [
        f"{path.name}:{node.lineno} calls {node.func.attr}: edit through edit.py"
        for path in sorted((root / PASSES).glob("*.py"))
        if path.name not in ("edit.py", "copies.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in EDITS
    ]


def test_every_pass_file_keeps_the_rules():
    assert find_faults(ROOT) == []


GOOD = '''
@dataclass(frozen=True)
class CompressFFT(Pass):
    """Compress.

    Before::

    After::

    Requires: nothing.
    Keeps: 1. all.
    Error: exact.
    """
'''


@pytest.mark.parametrize(
    ("file", "source", "fault"),
    [
        ("compress.py", GOOD, "compress.py holds CompressFFT: it belongs in compress_fft.py"),
        ("compress_fft.py", GOOD + GOOD.replace("CompressFFT", "Other"), "compress_fft.py holds a second pass, Other"),
        ("compress_fft.py", GOOD.replace("(frozen=True)", ""), "is not decorated"),
        ("compress_fft.py", GOOD.replace("Keeps: 1. all.", ""), "does not say Keeps: in its docstring"),
        ("compress_fft.py", GOOD + "x = 1\n" * LONGEST_PASS, "look for two passes"),
        (
            "compress_fft.py",
            GOOD + "old.replace_all_uses_with(new)",
            "calls replace_all_uses_with: edit through edit.py",
        ),
        ("base.py", "graph.call_function(f)", "base.py:1 calls call_function"),
    ],
)
def test_each_rule_finds_a_planted_fault(tmp_path: Path, file: str, source: str, fault: str):
    plant(tmp_path, {f"{PASSES}/{file}": source, f"{TESTS}/test_{file}": ""})
    found = find_faults(tmp_path)
    assert len(found) == 1
    assert fault in found[0]


def test_finds_a_pass_without_a_test_file(tmp_path: Path):
    plant(tmp_path, {f"{PASSES}/compress_fft.py": GOOD})
    assert find_faults(tmp_path) == ["CompressFFT has no test file tests/passes/test_compress_fft.py"]


def test_accepts_a_pass_that_keeps_the_rules(tmp_path: Path):
    plant(
        tmp_path,
        {
            f"{PASSES}/compress_fft.py": GOOD,
            f"{PASSES}/base.py": "class Pass: ...",
            f"{PASSES}/edit.py": "graph.call_function(f)",
            f"{TESTS}/test_compress_fft.py": "",
        },
    )
    assert find_faults(tmp_path) == []


@pytest.mark.parametrize(
    ("class_name", "file"),
    [("InsertCache", "insert_cache.py"), ("CompressFFT", "compress_fft.py"), ("FFTCompress", "fft_compress.py")],
)
def test_files_are_named_after_their_class(class_name: str, file: str):
    assert file_name(class_name) == file


def plant(root: Path, files: dict[str, str]) -> None:
    for name, source in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(source)
