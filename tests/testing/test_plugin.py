"""The pytest plugin, in test runs of its own; a program stands for the model, as it is made in milliseconds."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

pytest_plugins = ["pytester"]

SOURCE = """
import pytest
import torch
from fouriercache.testing import trace

def test_keeps_the_graph(graph_golden):
    graph_golden(trace(lambda x: x.sin(){more}, torch.zeros(2, 3)))

@pytest.mark.parametrize("size", [2])
def test_names_goldens_by_parameter(graph_golden, size):
    graph_golden(trace(lambda x: x.cos(), torch.zeros(size)))
"""


@pytest.fixture
def suite(pytester: pytest.Pytester) -> pytest.Pytester:
    pytester.makeini("[pytest]\naddopts = -p pytest_fouriercache -p no:cacheprovider\n")
    write(pytester)
    return pytester


def write(suite: pytest.Pytester, more: str = "") -> None:
    suite.makepyfile(test_graphs=SOURCE.replace("{more}", more))


def test_a_missing_golden_fails_with_the_command_that_makes_it(suite: pytest.Pytester):
    result = suite.runpytest_inprocess()
    result.assert_outcomes(failed=2)
    result.stdout.fnmatch_lines(
        [
            "*There is no golden *test_keeps_the_graph.txt yet.",
            "*pytest test_graphs.py::test_keeps_the_graph --update-graphs",
        ]
    )
    result.stdout.fnmatch_lines(["*pytest 'test_graphs.py::test_names_goldens_by_parameter[[]2[]]' --update-graphs"])
    assert not (suite.path / "graphs").exists()


CAPTURING = """
import logging
import fouriercache as fc
from tests.tiny import example

def test_of_a_model(graph_golden, monkeypatch):
    logging.getLogger("ours").warning("said before")
    monkeypatch.delenv("FOURIERCACHE_CACHE_DIR", raising=False)  # a capture from disk says nothing of its own
    model, call = example()
    graph_golden(fc.optimize(model, fc.TaylorSeer(interval=4), num_steps=8, example_inputs=call))
"""


def test_a_failure_after_a_capture_says_nothing_of_torchs_trace(suite: pytest.Pytester):
    suite.makepyfile(test_graphs=CAPTURING)
    result = suite.runpytest_inprocess()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*There is no golden *test_of_a_model.txt yet.", "*ours*said before"])
    result.stdout.no_fnmatch_line("*torch.__trace*")
    assert len(result.outlines) < 40


def test_an_update_writes_names_what_it_wrote_and_then_holds(suite: pytest.Pytester):
    result = suite.runpytest_inprocess("--update-graphs")
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines(
        [
            "*graph goldens*",
            "updated graphs/test_keeps_the_graph.txt",
            "updated graphs/test_names_goldens_by_parameter-2.txt",
        ]
    )
    result = suite.runpytest_inprocess()
    result.assert_outcomes(passed=2)
    result.stdout.no_fnmatch_line("*graph goldens*")
    suite.runpytest_inprocess("--update-graphs").stdout.no_fnmatch_line("*graph goldens*")


def test_a_changed_graph_fails_with_words_and_a_diff(suite: pytest.Pytester):
    suite.runpytest_inprocess("--update-graphs")
    write(suite, " + x")
    result = suite.runpytest_inprocess()
    result.assert_outcomes(failed=1, passed=1)
    result.stdout.fnmatch_lines(
        [
            "E*GraphMismatch: The graphs are not those of *test_keeps_the_graph.txt:",
            "E *program: launches 1 = 1 outside -> 2 = 2 outside (+1)",
            "E *+  %1: f32[[]2,3[]] = add.Tensor(%0, x)",
            "E *If this is meant: pytest test_graphs.py::test_keeps_the_graph --update-graphs",
        ]
    )


def test_updates_of_other_processes_are_named_too(suite: pytest.Pytester):
    result = suite.runpytest_subprocess("--update-graphs", "-n", "1")
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines(["updated graphs/test_keeps_the_graph.txt"])


def test_loading_the_plugin_imports_neither_torch_nor_the_package():
    code = "import sys, pytest_fouriercache; print(sorted({'torch', 'fouriercache', 'numpy'} & sys.modules.keys()))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=root())
    assert run.stdout.strip() == "[]"


def test_the_package_registers_the_plugin_and_ships_it():
    project = tomllib.loads((root() / "pyproject.toml").read_text())
    assert project["project"]["entry-points"]["pytest11"] == {"pytest_fouriercache": "pytest_fouriercache"}
    targets = project["tool"]["hatch"]["build"]["targets"]
    assert "pytest_fouriercache.py" in targets["wheel"]["only-include"]
    assert "pytest_fouriercache.py" in targets["sdist"]["include"]


def root() -> Path:
    return Path(__file__).parents[2]
