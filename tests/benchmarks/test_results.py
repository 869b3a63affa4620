"""Every benchmark runs at tiny sizes and writes a complete result. No time is looked at: it would mean nothing."""

import json
import math
import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
SCRIPTS = sorted(path.stem for path in (ROOT / "benchmarks").glob("[!_]*.py") if "__main__" in path.read_text())
WITHOUT = ("diffusers", "transformers", "accelerate", "rich", "typer", "matplotlib", "jinja2", "onnx", "onnxscript")
"""What gpu.py must not need: it runs where torch, numpy and safetensors are."""
HIDE = f"""
from importlib.machinery import PathFinder
find = PathFinder.find_spec
PathFinder.find_spec = lambda name, *rest: None if name.partition(".")[0] in {WITHOUT!r} else find(name, *rest)
"""
EXHAUSTIVE = frozenset(
    {
        "codec_curve", "cost", "cost_scaling", "cost_speedup", "endurance", "full_size", "gpu", "headlines", "ort_loop",
        "ort_presets", "pass_scaling", "pipelines", "quality", "spectral_cost", "start_up", "step_cost",
        "tensorrt_plans", "zoo",
    }
)  # fmt: skip
"""Other tests run what these measure, too; of `gpu`, the plain models and the backends."""

PROVENANCE = {"benchmark", "title", "about", "began", "ended", "commit", "command", "environment", "settings"}


@pytest.fixture(
    scope="module",
    params=[pytest.param(name, marks=pytest.mark.exhaustive if name in EXHAUSTIVE else ()) for name in SCRIPTS],
)
def found(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], str]:
    """What a script wrote: its JSON and its Markdown."""
    name: str = request.param
    if name in ("loop", "quality") and find_spec("cache_dit") is None:
        pytest.skip("needs the extra `bench`: cache-dit is compared with")
    folder = tmp_path_factory.mktemp(name)
    command = [sys.executable, str(ROOT / "benchmarks" / f"{name}.py"), "--quick", "--out", str(folder)]
    first = [str(ROOT)]
    if name == "gpu":
        (folder / "sitecustomize.py").write_text(HIDE)  # Python imports it when it starts
        first.insert(0, str(folder))
    path = os.pathsep.join([*first, *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = os.environ | {"PYTHONPATH": path}
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT, env=environment)
    assert done.returncode == 0, done.stderr
    written: dict[str, Any] = json.loads((folder / f"{name}.json").read_text())
    return written, (folder / f"{name}.md").read_text()


@pytest.mark.slow
def test_the_result_says_where_it_comes_from(found: tuple[dict[str, Any], str]):
    written, _ = found
    assert written.keys() >= PROVENANCE
    assert "--quick" in written["command"]
    assert {"torch", "diffusers", "Python", "Processor", "Threads"} <= written["environment"].keys()


@pytest.mark.slow
def test_every_row_and_check_is_measured(found: tuple[dict[str, Any], str]):
    written, _ = found
    assert written["rows"]
    assert written["checks"]
    assert all(math.isfinite(check["value"]) and math.isfinite(check["limit"]) for check in written["checks"])
    keys = set(written["rows"][-1])
    assert all(set(row) == keys for row in written["rows"][1:])


@pytest.mark.slow
def test_the_page_shows_every_row(found: tuple[dict[str, Any], str]):
    written, page = found
    tables = re.findall(r"(?:^\|.*\n)+", page, flags=re.MULTILINE)
    assert [len(table.splitlines()) - 2 for table in tables] == [len(written["rows"]), len(written["checks"])]


@pytest.mark.slow
@pytest.mark.parametrize("found", ["loop"], indirect=True)
def test_loops_of_one_method_give_one_result_whoever_caches(found: tuple[dict[str, Any], str]):
    written, _ = found
    errors = {row["name"]: row["error"] for row in written["rows"]}
    computed = {row["name"]: row["computed"] for row in written["rows"]}
    close = pytest.approx  # of 1e-2: rounding of single steps is some 1e-6 of the latents
    assert errors["fouriercache eager, stack, FORA"] == close(errors["by hand: whole-stack residual"], rel=1e-3)
    hooks = "diffusers TaylorSeer, order 1, attention + ff"
    assert errors["fouriercache eager, branch, TaylorSeer order 1"] == close(errors[hooks], rel=1e-3)
    given = len(written["settings"]["given computed steps"])
    ours = {n for name, n in computed.items() if "fouriercache" in name and "attention" not in name}
    assert {*ours, computed[hooks]} == {given}
