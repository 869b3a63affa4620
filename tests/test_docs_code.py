"""The Python in the pages is Python, calls what there is with arguments that it takes, and runs where stand-ins do."""

from __future__ import annotations

import ast
import functools
import importlib
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import diffusers
import pytest
import torch

import fouriercache as fc
from fouriercache.calibrations import describe_method
from tests.tiny import denoise, example, tiny_dit

ROOT = Path(__file__).parents[1]
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.DOTALL | re.MULTILINE)
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCKS = {
    f"{path.relative_to(ROOT).as_posix()} {number}": source
    for path in PAGES
    for number, source in enumerate(BLOCK.findall(path.read_text()))
}


def find_faults(source: str) -> list[str]:
    """Return one sentence for each call of ours that names what is not there, or passes what it does not take."""
    tree = ast.parse(source)
    known: dict[str, Any] = {"fc": fc}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and str(node.module).startswith("fouriercache"):
            module = importlib.import_module(str(node.module))
            known.update({alias.asname or alias.name: getattr(module, alias.name) for alias in node.names})
    return [fault for node in ast.walk(tree) if isinstance(node, ast.Call) for fault in _faults_of(node, known)]


def _faults_of(call: ast.Call, known: dict[str, Any]) -> Iterator[str]:
    path = ast.unparse(call.func).split(".")
    if path[0] not in known:
        return
    try:
        target = functools.reduce(getattr, path[1:], known[path[0]])
        inspect.signature(target).bind(*call.args, **{str(keyword.arg): None for keyword in call.keywords})
    except (AttributeError, TypeError) as error:
        yield f"{ast.unparse(call)}: {error}"


@pytest.mark.parametrize("name", BLOCKS)
def test_every_block_of_python_is_python_and_calls_what_there_is(name: str):
    assert find_faults(BLOCKS[name]) == []


@pytest.mark.parametrize(
    "source",
    ["fc.optimise(model)", "fc.optimize(model, method, steps=3)", "fc.Calibration.read('x')",
     "from fouriercache.export.triton import export_triton as write\nwrite(1, 2, title='x')"],
)  # fmt: skip
def test_finds_a_call_of_what_there_is_not(source: str):
    assert len(find_faults(source)) == 1


def test_finds_what_is_no_python():
    with pytest.raises(SyntaxError):
        find_faults("call = {'hidden_states': 1, ...}")


class Pipe:
    """What the pages need of a pipeline: it calls its transformer once a step."""

    def __init__(self) -> None:
        self.transformer = tiny_dit()

    def __call__(self, prompt: str, num_inference_steps: int) -> Any:
        timesteps = [1000.0 * (1 - step / num_inference_steps) for step in range(num_inference_steps)]
        return SimpleNamespace(images=denoise(self.transformer, timesteps=timesteps)[-1])


def run(name: str) -> dict[str, Any]:
    """Run a block with stand-ins for what its page takes for granted; return its names."""
    model, call = example()
    known: dict[str, Any] = {
        "fc": fc,
        "torch": torch,
        "model": model,
        "call": call,
        "pipe": Pipe(),
        "prompt": "a house",
    }
    exec(BLOCKS[name], known)
    return known


def test_the_example_in_the_readme_runs_as_it_stands_there():
    found = run("README.md 0")
    assert found["fast"].report.sites
    assert found["images"].isfinite().all()
    assert len(found["fast"].session.computed_steps[0]) < 50


@pytest.mark.parametrize("name", ["docs/index.md 0", "docs/pipelines.md 0", "docs/cost.md 0"])
def test_examples_that_need_a_model_alone_run(name: str):
    found = run(name)
    fast = found.get("fast", found["pipe"].transformer)
    assert isinstance(fast, fc.OptimizedModule)
    assert len(denoise(fast, timesteps=[1000.0 - 20 * step for step in range(50)])) == 50


def test_the_example_of_prepare_runs():
    known: dict[str, Any] = {
        "fast": fc.optimize(tiny_dit(), fc.Tuned(), num_steps=50), "scheduler": diffusers.DDIMScheduler(),
    }  # fmt: skip
    exec(BLOCKS["docs/trajectories.md 0"], known)
    assert known["fast"].session.num_steps == 50


def test_the_example_of_a_calibration_at_another_size_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    fc.Calibration(
        method=describe_method(fc.Tuned()), num_steps=4, timesteps=(9.0, 6.0, 3.0, 1.0), model="0" * 64, scheduler=None,
        steps=(0, 3), errors={"uniform": 0.2, "found": 0.1}, neighbours=(((0, 2), 0.3),),
    ).save("calibration.safetensors")  # fmt: skip
    (name,) = [name for name, source in BLOCKS.items() if "fc.Calibration.load" in source]
    fast = run(name)["fast"]
    denoise(fast, timesteps=[8.0, 5.0, 2.0, 0.5])  # timesteps of another size
    assert fast.session.computed_steps == {0: (0, 3)}


@pytest.mark.slow
@pytest.mark.ort
def test_the_example_of_export_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    assert isinstance(run("docs/export.md 0")["pipe"].transformer, fc.BundledModule)


@pytest.mark.slow
def test_the_example_of_a_graph_test_runs(monkeypatch: pytest.MonkeyPatch):
    """At the full width and with a block of each kind, as nothing in it depends on how many there are."""
    full = diffusers.FluxTransformer2DModel
    monkeypatch.setattr(diffusers, "FluxTransformer2DModel", functools.partial(full, num_layers=1, num_single_layers=1))
    compared: list[fc.OptimizedModule] = []
    run("docs/graph_tests.md 0")["test_graphs_of_our_model"](compared.append)
    assert len(compared[0].report.sites) == 5


def test_what_is_installed_by_name_is_on_the_index():
    """This package is not: a line that installs it by its name would install another's."""
    pages = [*PAGES, *(ROOT / "fouriercache").rglob("*.py"), *(ROOT / "benchmarks").rglob("*.py")]
    by_name = re.compile(r"pip install[^\n`]*[\s'\"]fouriercache\b(?!/)")
    assert [path.name for path in pages if by_name.search(path.read_text())] == []
    assert by_name.search("pip install torch 'fouriercache[onnx]'")
    assert by_name.search("pip install fouriercache")
