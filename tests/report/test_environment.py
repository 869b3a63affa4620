"""What `doctor` looks at."""

from __future__ import annotations

import re
import tomllib
from importlib import metadata
from pathlib import Path

import pytest

from fouriercache.report import environment
from fouriercache.report.environment import EXTRAS, Finding, describe_environment, examine

PROJECT = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]


def pretend(monkeypatch: pytest.MonkeyPatch, versions: dict[str, str]) -> dict[str, Finding]:
    """Look at a machine where, of the extras, just `versions` is installed; return its findings by name."""
    optional = {name for packages in EXTRAS.values() for name in packages}

    def find_version(name: str) -> str | None:
        if name in versions or name in optional:
            return versions.get(name)
        return "1.0"

    monkeypatch.setattr(environment, "find_version", find_version)
    return {finding.name: finding for finding in examine()}


def test_the_extras_are_those_of_the_project_file():
    declared = {
        extra: tuple(re.split(r"[<>=!~ ]", need)[0] for need in needs)
        for extra, needs in PROJECT["optional-dependencies"].items()
        if extra in EXTRAS
    }
    assert declared == dict(EXTRAS)


def test_a_missing_extra_is_named_with_what_to_install(monkeypatch: pytest.MonkeyPatch):
    found = pretend(monkeypatch, {"onnx": "1.20"})["onnx"]
    assert found.state == "missing"
    assert found.value == "without onnx-ir, onnxscript, onnxruntime"
    assert found.advice == "pip install '.[onnx]' in FourierCache's folder"


def test_an_extra_that_is_there_shows_its_versions(monkeypatch: pytest.MonkeyPatch):
    found = pretend(monkeypatch, {"onnx": "1.20", "onnx-ir": "0.2", "onnxscript": "0.7", "onnxruntime": "1.30"})["onnx"]
    assert found.state == "good"
    assert found.value == "onnx 1.20, onnx-ir 0.2, onnxscript 0.7, onnxruntime 1.30"


def test_both_onnxruntimes_at_once_are_a_fault(monkeypatch: pytest.MonkeyPatch):
    found = pretend(monkeypatch, {"onnxruntime": "1.30", "onnxruntime-gpu": "1.30"})["conflict"]
    assert found.state == "bad"
    assert "one Python module" in found.value


def test_an_old_torch_is_a_fault(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("torch.__version__", "2.9.1+cpu")
    found = pretend(monkeypatch, {})["torch release"]
    assert found.state == "bad"
    assert found.advice == 'pip install "torch>=2.11"'


def test_inductor_needs_a_compiler(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr("shutil.which", lambda name: None)
    found = pretend(monkeypatch, {})["inductor"]
    assert found.state == "missing"
    assert "no C++ compiler" in found.value
    monkeypatch.setattr("shutil.which", lambda name: f"/bin/{name}")
    monkeypatch.setenv("CXX", "my-compiler")
    assert pretend(monkeypatch, {})["inductor"].value == "usable, with my-compiler"


def test_the_report_tells_versions_and_threads():
    told = describe_environment()
    assert told["torch"] == metadata.version("torch")
    assert int(told["Threads"]) >= 1
    assert told["Processor"]
