"""The scripts of examples/ run from start to end, and say what they did."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import pytest
import torch

EXAMPLES = Path(__file__).parents[2] / "examples"


def run(name: str, *arguments: str) -> None:
    with torch.random.fork_rng(devices=[]):
        runpy.run_path(str(EXAMPLES / f"{name}.py"))["main"](arguments)


def test_the_dit_example_writes_both_strips_of_images(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    run("dit_pipeline", "--steps", "6", "--interval", "2", "--out", str(tmp_path / "samples"))
    said = capsys.readouterr().out
    assert sorted(path.name for path in (tmp_path / "samples").iterdir()) == ["cached.png", "uncached.png"]
    assert "steps computed    4 of 6" in said
    error = float(re.findall(r"relative error\s+(\S+)", said)[0])
    assert 0 < error < 0.5


def test_the_flux_example_caches_every_branch(capsys: pytest.CaptureFixture[str]):
    run("flux_pipeline", "--steps", "6")
    said = capsys.readouterr().out
    assert "sites cached      6 attention, 4 mlp" in said
    assert "steps computed    3 of 6" in said
    error = float(re.findall(r"relative error\s+(\S+)", said)[0])
    assert 0 < error < 0.5


def test_every_example_has_a_test():
    tested = re.findall(r'run\("(\w+)"', Path(__file__).read_text())
    assert sorted(tested) == sorted(path.stem for path in EXAMPLES.glob("*.py"))
