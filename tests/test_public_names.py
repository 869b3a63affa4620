"""Style rule 12: public is what `__init__` lists. What is held:

1. `fouriercache` and every room that is a folder has an `__init__.py` whose `__all__` lists exactly the public names it
   binds, each once, and what it lists exists. So nothing public is reachable from `import fouriercache` but what is
   listed, and the rooms themselves, which Python puts there when they are imported.
2. A name that a module defines without an underscore is listed by some `__init__`, or said by another file of the
   repository, code or page: inside the package it is shared between modules, and may change today. A name that only its
   own module says is private, and starts with an underscore. A function that a decorator registers is said by that.
3. No module of the package reaches for an underscore name of another one.
"""

from __future__ import annotations
import __future__

import ast
import importlib
import pkgutil
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

import fouriercache

ROOT = Path(__file__).parents[1]
READERS = ("fouriercache", "tests", "benchmarks", "training", "examples", "docs")
REGISTERED = re.compile(r"pytest_\w+|main|logger")
"""Names said by what calls them: pytest's hooks, the console script's `main`; `logger` is said by its own module."""


def packages() -> list[ModuleType]:
    """Return `fouriercache` and every room that is a folder, imported."""
    found = pkgutil.walk_packages(fouriercache.__path__, "fouriercache.")
    return [fouriercache, *(importlib.import_module(module.name) for module in found if module.ispkg)]


def find_unlisted(module: ModuleType) -> list[str]:
    """Return one sentence for each difference between what an `__init__` binds and what its `__all__` lists."""
    listed: list[str] = list(getattr(module, "__all__", []))
    bound = {
        name
        for name, value in vars(module).items()
        if not name.startswith("_") and not is_submodule(module, name, value) and not is_future(value)
    }
    return [
        *(f"{module.__name__} binds {name}, which __all__ does not list" for name in sorted(bound - set(listed))),
        *(f"{module.__name__} lists {name}, which does not exist" for name in listed if not hasattr(module, name)),
        *(f"{module.__name__} lists {name} twice" for name in sorted(set(listed)) if listed.count(name) > 1),
    ]


def is_submodule(package: ModuleType, name: str, value: object) -> bool:
    return isinstance(value, ModuleType) and value.__name__ == f"{package.__name__}.{name}"


def is_future(value: object) -> bool:
    return isinstance(value, __future__._Feature)


def defined_names(tree: ast.Module) -> Iterator[str]:
    """Yield the public names that a module's top level defines, without those that a decorator registers."""
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and any(registers(decorator) for decorator in node.decorator_list):
            continue
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            yield node.name
        elif isinstance(node, ast.Assign):
            yield from (target.id for target in node.targets if isinstance(target, ast.Name))
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            yield node.target.id


def registers(decorator: ast.expr) -> bool:
    """Return whether a decorator is a method of some object, as `@app.command()` and `@library.impl(...)` are."""
    called = decorator.func if isinstance(decorator, ast.Call) else decorator
    return isinstance(called, ast.Attribute) and ast.unparse(called.value) not in ("functools", "contextlib", "torch")


def find_unsaid(root: Path) -> list[str]:
    """Return one sentence for each public name of the package that no other file says."""
    paths = [path for room in READERS for path in sorted((root / room).rglob("*")) if path.suffix in (".py", ".md")]
    texts = {path: path.read_text() for path in paths}
    words = {path: set(re.findall(r"\w+", text)) for path, text in texts.items()}
    faults = []
    for path, text in texts.items():
        if path.is_relative_to(root / "fouriercache") and path.suffix == ".py":
            said = set().union(*(found for other, found in words.items() if other != path))
            for name in defined_names(ast.parse(text)):
                if not name.startswith("_") and name not in said and not REGISTERED.fullmatch(name):
                    place = path.relative_to(root)
                    faults.append(f"{place} defines {name}, which nothing else says: list it, or write _{name}")
    return faults


def find_trespassers(root: Path) -> list[str]:
    """Return one sentence for each import of another module's underscore name."""
    return [
        f"{path.relative_to(root)}:{node.lineno} imports {alias.name} of {node.module}"
        for path in sorted((root / "fouriercache").rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ImportFrom) and (node.level or (node.module or "").startswith("fouriercache"))
        for alias in node.names
        if alias.name.startswith("_") and not alias.name.endswith("__")
    ]


@pytest.mark.parametrize("package", packages(), ids=lambda package: package.__name__)
def test_init_binds_exactly_what_it_lists(package: ModuleType):
    assert find_unlisted(package) == []


def test_every_room_that_is_a_folder_has_an_init():
    folders = {path.parent for path in (ROOT / "fouriercache").rglob("*.py")}
    assert sorted(folder for folder in folders if not (folder / "__init__.py").is_file()) == []


def test_every_public_name_is_listed_or_shared():
    assert find_unsaid(ROOT) == []


def test_no_module_reaches_for_a_private_name_of_another():
    assert find_trespassers(ROOT) == []


@pytest.mark.parametrize(
    ("names", "fault"),
    [
        ({"__all__": [], "optimize": 1}, "binds optimize, which __all__ does not list"),
        ({"optimize": 1}, "binds optimize, which __all__ does not list"),
        ({"torch": ModuleType("torch")}, "binds torch, which __all__ does not list"),
        ({"__all__": ["optimize"]}, "lists optimize, which does not exist"),
        ({"__all__": ["a", "a"], "a": 1}, "lists a twice"),
    ],
)
def test_finds_a_difference_between_what_is_bound_and_what_is_listed(names: dict[str, object], fault: str):
    module = ModuleType("room")
    vars(module).update(names)
    assert find_unlisted(module) == [f"room {fault}"]


def test_accepts_private_names_submodules_and_futures():
    module = ModuleType("room")
    vars(module).update(_hidden=1, annotations=__future__.annotations, door=ModuleType("room.door"))
    assert find_unlisted(module) == []


def test_finds_a_public_name_that_only_its_own_module_says(tmp_path: Path):
    source = "def shared(): ...\ndef alone(): ...\nLIMIT = 3\n_hidden = 1\n@app.command()\ndef demo(): ..."
    plant(tmp_path, {"fouriercache/edit.py": source, "fouriercache/match.py": "from .edit import shared"})
    faults = find_unsaid(tmp_path)
    assert [fault.split(",")[0] for fault in faults] == [
        "fouriercache/edit.py defines alone",
        "fouriercache/edit.py defines LIMIT",
    ]


def test_finds_an_import_of_another_modules_private_name(tmp_path: Path):
    source = "from fouriercache.edit import _hidden\nfrom torch._guards import _x\nfrom . import __version__"
    plant(tmp_path, {"fouriercache/match.py": source})
    assert find_trespassers(tmp_path) == ["fouriercache/match.py:1 imports _hidden of fouriercache.edit"]


def plant(root: Path, files: dict[str, str]) -> None:
    for name, source in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(source)
