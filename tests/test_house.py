"""House rules that a test can check on the sources alone; tests/test_pass_files.py holds those of passes.

Every rule is a function from the repository's root to a list of faults, one sentence each, so that the rule itself is
tested on a planted fault.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROOMS = ("fouriercache", "tests", "benchmarks", "training", "examples", "docs")

LONGEST_FILE = 300
LONG_FILES: dict[str, str] = {}
"""Files that may be longer, each with the reason; an entry that is not needed any more is a fault too."""

SPEAKERS = ("fouriercache/cli/", "fouriercache/report/", "training/", "benchmarks/", "examples/")
"""Where `print` is allowed: what speaks to a terminal."""

POSTPONED_WORDS = ["TO" + "DO", "FIX" + "ME", "X" + "XX"]  # written so that this file passes its own rule
POSTPONED = re.compile(rf"\b({'|'.join(POSTPONED_WORDS)})\b")
EMPTY_NAMES = {"manager", "handler", "helper", "util", "utility", "processor"}
"""Words that name no thing: they, and their plurals, stand in no name of a file or class."""

SENTENCE = re.compile(r"test(_[A-Za-z0-9]+){3,}")


def find_sources(root: Path) -> Iterator[tuple[str, str]]:
    """Yield (path from the root, text) of every Python file of ours."""
    for path in sorted([*root.glob("*.py"), *(path for room in ROOMS for path in (root / room).rglob("*.py"))]):
        yield path.relative_to(root).as_posix(), path.read_text()


def find_long_files(root: Path, allowed: dict[str, str]) -> list[str]:
    lengths = {name: len(text.splitlines()) for name, text in find_sources(root)}
    long = {name for name, length in lengths.items() if length > LONGEST_FILE}
    return [
        *(f"{name} has {lengths[name]} lines: look for two files" for name in sorted(long - allowed.keys())),
        *(f"{name} is allowed to be long and is not" for name in sorted(allowed.keys() - long)),
        *(f"{name} is allowed to be long without a reason" for name, reason in allowed.items() if not reason.strip()),
    ]


def find_prints(root: Path) -> list[str]:
    return [
        f"{name}:{node.lineno} prints: log it, return it, or raise it"
        for name, text in find_sources(root)
        if not name.startswith(SPEAKERS)
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
    ]


def find_postponed_work(root: Path) -> list[str]:
    return [
        f"{name}:{number} postpones work: do it, or write an issue"
        for name, text in find_sources(root)
        for number, line in enumerate(text.splitlines(), start=1)
        if POSTPONED.search(line)
    ]


def find_empty_names(root: Path) -> list[str]:
    faults = []
    for name, text in find_sources(root):
        nodes = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.ClassDef)]
        for given in (Path(name).stem, *(node.name for node in nodes)):
            words = {word.lower().removesuffix("s") for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", given)}
            faults += [f"{name}: {word!r} in {given!r} names no thing" for word in sorted(words & EMPTY_NAMES)]
    return faults


def find_test_names_that_are_no_sentences(root: Path) -> list[str]:
    return [
        f"{name}:{node.lineno} {node.name} is not a sentence: say what is true, in three words or more"
        for name, text in find_sources(root)
        if name.startswith("tests/")
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test") and not SENTENCE.fullmatch(node.name)
    ]


def test_no_file_is_longer_than_the_house_allows():
    assert find_long_files(ROOT, LONG_FILES) == []


def test_only_what_speaks_to_a_terminal_prints():
    assert find_prints(ROOT) == []


def test_nothing_is_left_for_later():
    assert find_postponed_work(ROOT) == []


def test_names_name_things():
    assert find_empty_names(ROOT) == []


def test_test_names_are_sentences():
    assert find_test_names_that_are_no_sentences(ROOT) == []


Rule = Callable[[Path], list[str]]


@pytest.mark.parametrize(
    ("rule", "path", "source"),
    [
        (find_prints, "fouriercache/capture.py", "def f():\n    print('captured')"),
        (find_prints, "tests/test_capture.py", "print(1)"),
        (find_postponed_work, "fouriercache/capture.py", f"x = 1  # {POSTPONED_WORDS[0]}: think"),
        (find_postponed_work, "noxfile.py", f"# {POSTPONED_WORDS[1]}"),
        (find_empty_names, "fouriercache/runtime/state.py", "class StateManager: ..."),
        (find_empty_names, "fouriercache/runtime/state.py", "class FFTHandler: ..."),
        (find_empty_names, "fouriercache/graph_utils.py", ""),
        (find_empty_names, "tests/helpers.py", ""),
        (find_test_names_that_are_no_sentences, "tests/test_capture.py", "def test_capture(): ..."),
        (find_test_names_that_are_no_sentences, "tests/test_capture.py", "class TestIt:\n    def test_it(self): ..."),
    ],
)
def test_each_rule_finds_a_planted_fault(tmp_path: Path, rule: Rule, path: str, source: str):
    plant(tmp_path, path, source)
    assert len(rule(tmp_path)) == 1


@pytest.mark.parametrize(
    ("rule", "path", "source"),
    [
        (find_prints, "fouriercache/cli/demo.py", "print('done')"),
        (find_prints, "fouriercache/capture.py", "console.print('x')\n'print(x)'"),
        (
            find_empty_names,
            "fouriercache/calibration/fit.py",
            "from contextlib import contextmanager\nclass Utilise: ...",
        ),
        (find_test_names_that_are_no_sentences, "tests/test_capture.py", "def test_keeps_the_cast(): ..."),
    ],
)
def test_each_rule_leaves_alone_what_it_does_not_mean(tmp_path: Path, rule: Rule, path: str, source: str):
    plant(tmp_path, path, source)
    assert rule(tmp_path) == []


def test_finds_a_file_that_is_too_long_and_an_exception_that_is_not_needed(tmp_path: Path):
    plant(tmp_path, "fouriercache/long.py", "x = 1\n" * (LONGEST_FILE + 1))
    plant(tmp_path, "fouriercache/short.py", "x = 1\n" * LONGEST_FILE)
    assert find_long_files(tmp_path, {}) == ["fouriercache/long.py has 301 lines: look for two files"]
    assert find_long_files(tmp_path, {"fouriercache/long.py": "one table"}) == []
    assert len(find_long_files(tmp_path, {"fouriercache/long.py": " ", "fouriercache/short.py": "a reason"})) == 2


def plant(root: Path, path: str, source: str) -> None:
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_text(source)
