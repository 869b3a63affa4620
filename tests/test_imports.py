"""The one-way imports of the house: a room imports only rooms on the lines below its own.

Rooms of one line may import each other, but never in a circle. Imports inside functions count, and so do imports for
types alone: a room that names another's types knows of it. Only the circle rule looks past `if TYPE_CHECKING`, because
such an import cannot close a circle at run time.
"""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "fouriercache"
PUBLIC_FACE = "__init__"

LINES = (
    {"__main__"},
    {"cli"},
    {PUBLIC_FACE},  # below cli, which is a user of the package like any other
    {"calibration", "report", "testing"},
    {"optimize", "load"},
    {
        "capture",
        "disk_cache",
        "in_place",
        "kept",
        "quick_calls",
        "reused_memory",
        "preconditions",
        "assembly",
        "tracing",
        "questions",
        "verification",
        "calls",
        "steps",
        "passes",
        "bundle",
        "export",
        "runtime",
    },
    {"program", "text", "cost", "ops", "presets", "methods", "models", "calibrations"},
    {"predictors", "schedules", "indicators", "codecs", "tokens", "spectral", "checks", "tensorrt_library"},
    {"figures", "fingerprints", "gates", "live_weights", "strict_files", "onnx_files", "extras", "paths"},
    {"errors"},
)
LINE_OF = {room: number for number, line in enumerate(LINES) for room in line}

STRANGERS = {
    *(("passes", "runtime"), ("passes", "export"), ("runtime", "passes"), ("runtime", "export")),
    *(("bundle", "export"), ("bundle", "runtime")),
}
"""Rooms of one line that know nothing of each other, whatever the circle rule would allow."""


def read_imports(package: Path) -> Iterator[tuple[str, str, str, bool]]:
    """Yield (importing room, imported room, place, for types alone) for every import of ours in `package`."""
    for path in sorted(package.rglob("*.py")):
        parts = path.relative_to(package).with_suffix("").parts
        tree = ast.parse(path.read_text())
        branches = [node for node in ast.walk(tree) if isinstance(node, ast.If)]
        guarded = [statement for node in branches if "TYPE_CHECKING" in ast.dump(node.test) for statement in node.body]
        typing_only = {inner for statement in guarded for inner in ast.walk(statement)}
        for node in ast.walk(tree):
            for target in imported_names(node, (package.name, *parts)):
                if target[0] == package.name:
                    room = target[1] if len(target) > 1 and (target[1] in LINE_OF or len(target) > 2) else PUBLIC_FACE
                    yield parts[0], room, f"{'/'.join(parts)}.py:{getattr(node, 'lineno', 0)}", node in typing_only


def imported_names(node: ast.AST, importer: tuple[str, ...]) -> list[tuple[str, ...]]:
    """Return the dotted names that an import statement reaches, relative ones resolved; none for other statements."""
    if isinstance(node, ast.Import):
        return [tuple(alias.name.split(".")) for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        start = importer[: -node.level] if node.level else ()
        source = (*start, *(node.module.split(".") if node.module else ()))
        return [(*source, alias.name) for alias in node.names]
    return []


def find_faults(package: Path) -> list[str]:
    """Return one sentence for each room, import, or circle of imports, that breaks the order."""
    rooms = {path.relative_to(package).with_suffix("").parts[0] for path in package.rglob("*.py")}
    faults = [f"room {room!r} has no line yet: add it to LINES" for room in sorted(rooms - LINE_OF.keys())]
    graph: dict[str, set[str]] = {}
    for importer, imported, place, typing_only in read_imports(package):
        if importer == imported or not {importer, imported} <= LINE_OF.keys():
            continue
        if LINE_OF[importer] > LINE_OF[imported] or (importer, imported) in STRANGERS:
            faults.append(f"{place}: {importer} imports {imported}, of which it must know nothing")
        if importer == "spectral":
            faults.append(f"{place}: spectral imports {imported}; it is tensor math and imports nothing of ours")
        if not typing_only:
            graph.setdefault(importer, set()).add(imported)
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        faults.append(f"rooms import each other in a circle: {' <- '.join(error.args[1])}")
    return faults


def find_undeclared(package: Path, project: str) -> list[str]:
    """Return one sentence for each import of a package that the text of pyproject.toml does not declare."""
    table = tomllib.loads(project)["project"]
    extras = [need for extra in table.get("optional-dependencies", {}).values() for need in extra]
    names = {re.split(r"[^\w.-]", need)[0].replace("-", "_").lower() for need in [*table["dependencies"], *extras]}
    known = names | sys.stdlib_module_names | {package.name, "tensorrt_rtx_bindings"}  # tensorrt-rtx's import name
    return [
        f"{path.relative_to(package)}:{getattr(node, 'lineno', 0)} imports {target[0]}, which pyproject.toml lacks"
        for path in sorted(package.rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text()))
        for target in imported_names(node, (package.name, *path.relative_to(package).with_suffix("").parts))
        if target[0] not in known
    ]


def test_imports_run_one_way_through_the_house():
    assert find_faults(PACKAGE) == []


def test_every_package_that_is_imported_is_declared():
    assert find_undeclared(PACKAGE, (PACKAGE.parent / "pyproject.toml").read_text()) == []


def test_finds_an_import_that_is_not_declared(tmp_path):
    package = plant(tmp_path, {"ops.py": "import json, scipy.fft\nimport onnx\nfrom cache_dit.x import y"})
    project = '[project]\ndependencies = ["torch>=2"]\noptional-dependencies = {onnx = ["onnx"], b = ["cache-dit>=1"]}'
    assert find_undeclared(package, project) == ["ops.py:1 imports scipy, which pyproject.toml lacks"]


@pytest.mark.parametrize(
    ("path", "source", "fault"),
    [
        ("passes/fold.py", "from fouriercache.runtime.session import Session", "passes imports runtime"),
        ("passes/fold.py", "def f():\n    from ..export import onnx", "passes imports export"),
        ("runtime/module.py", "import fouriercache.passes.base", "runtime imports passes"),
        ("methods.py", "from .capture import capture", "methods imports capture"),
        ("errors.py", "from fouriercache import schedules", "errors imports schedules"),
        ("spectral.py", "from fouriercache.errors import MethodError", "imports nothing of ours"),
        ("report/page.py", "import fouriercache as fc", "report imports __init__"),
        ("report/page.py", "from fouriercache import optimize_all", "report imports __init__"),
        ("optimize.py", "if TYPE_CHECKING:\n    from fouriercache.cli import main", "optimize imports cli"),
        ("attic.py", "from fouriercache.errors import MethodError", "'attic' has no line yet"),
    ],
)
def test_finds_an_import_against_the_order(tmp_path, path, source, fault):
    package = plant(tmp_path, {path: source})
    assert [sentence for sentence in find_faults(package) if fault in sentence]


def test_finds_a_circle_within_one_line(tmp_path):
    package = plant(tmp_path, {"program.py": "from .ops import predict", "ops.py": "from .program import Program"})
    assert "in a circle" in find_faults(package)[0]


def test_accepts_types_that_close_a_circle_and_imports_downwards(tmp_path):
    package = plant(
        tmp_path,
        {
            "program.py": "from .text import program_text",
            "text.py": "if TYPE_CHECKING:\n    from fouriercache.program import Program",
            "cli.py": "import fouriercache as fc\nfrom fouriercache.report import page",
            "passes/fold.py": "from .base import Pass\nfrom fouriercache.errors import PassError",
        },
    )
    assert find_faults(package) == []


def plant(folder: Path, files: dict[str, str]) -> Path:
    """Write `files` as a package called fouriercache under `folder`; return the package's folder."""
    package = folder / "fouriercache"
    for name, source in files.items():
        path = package / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(source)
    return package
