"""The examples in the pages are true: each `{doctest}` block runs as it stands there, with the package as `fc`.

And the files that the pages name are there.
"""

from __future__ import annotations

import doctest
import re
from pathlib import Path

import pytest

import fouriercache as fc

ROOT = Path(__file__).parents[1]
PAGES = [path for path in sorted((ROOT / "docs").rglob("*.md")) if "```{doctest}" in path.read_text()]
BLOCK = re.compile(r"^```\{doctest\}\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def count_failures(page: str, name: str, globs: dict[str, object]) -> int:
    """Run every example of `page`; return how many did not give what the page shows, which is printed."""
    source = "\n".join(BLOCK.findall(page))
    test = doctest.DocTestParser().get_doctest(source, globs, name, filename=None, lineno=None)
    return doctest.DocTestRunner().run(test).failed


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_examples_in_the_pages_give_what_they_show(path: Path):
    assert count_failures(path.read_text(), path.name, {"fc": fc}) == 0


def test_finds_an_example_that_shows_the_wrong_result():
    assert count_failures("```{doctest}\n>>> 1 + 1\n3\n```\n\n```{doctest}\n>>> 2\n2\n```\n", "page", {}) == 1


def test_every_page_with_a_method_has_examples():
    methods = sorted((ROOT / "docs" / "methods").glob("*.md"))
    assert methods
    assert set(methods) <= set(PAGES)


FOLDERS = "benchmarks|docs|examples|fouriercache|tests|training"
SAID = re.compile(rf"(?<![\w/.:-])((?:{FOLDERS})/[\w./-]*\.\w+)")
LINKED = re.compile(r"\]\(([^)#\s:]+)(?:#[^)\s]*)?\)")
NOT_OURS = {
    "docs/gpu.md": {"benchmarks/results/gpu.md"},  # it says that no GPU has written it yet
    "docs/graph_tests.md": {"tests/test_models.py"},  # of the reader's own repository
}


def find_missing(page: str, text: str) -> set[str]:
    """Return what a page names and the repository has not: files from its root, and files that links lead to."""
    said = {name for name in SAID.findall(text) if not (ROOT / name).is_file()}
    linked = {name for name in LINKED.findall(text) if not (ROOT / page).parent.joinpath(name).exists()}
    return (said | linked) - NOT_OURS.get(page, set())


@pytest.mark.parametrize(
    "page",
    [
        "README.md",
        "CHANGELOG.md",
        "CONTRIBUTING.md",
        *(p.relative_to(ROOT).as_posix() for p in (ROOT / "docs").rglob("*.md")),
    ],
)
def test_every_file_that_a_page_names_is_there(page: str):
    assert find_missing(page, (ROOT / page).read_text()) == set()


def test_finds_what_is_named_and_not_there():
    text = (
        "`benchmarks/results/gone.md`, see [this](gone.md#part), [that](tensorrt.md#plans), <https://x.org/docs/a.md>."
    )
    assert find_missing("docs/index.md", text + " `python benchmarks/gone.py`, `benchmarks/results/cost.md`") == {
        "benchmarks/results/gone.md", "benchmarks/gone.py", "gone.md",
    }  # fmt: skip


def test_the_page_of_the_gpu_lists_every_file_that_needs_one():
    page = (ROOT / "docs" / "gpu.md").read_text()
    files = [
        path
        for path in (ROOT / "tests").rglob("*.py")
        if re.search(r"^[^#\n]*pytest\.mark\.gpu", path.read_text(), re.M)
    ]
    found = {path.relative_to(ROOT).as_posix() for path in files}
    assert found == set(re.findall(r"^\| `(tests/.*\.py)`", page, re.M))
