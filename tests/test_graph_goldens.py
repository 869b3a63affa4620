"""Our own goldens: what every kind of method makes of the shipped model, and TaylorSeer of published ones at full size.

`fouriercache check tests/graphs/*.txt` compares the same files. What torch.export makes of a model is a matter of the
torch release, so they hold for the releases they were made with.
"""

from __future__ import annotations

import pytest

from fouriercache.testing.golden import read_golden
from pytest_fouriercache import GraphGolden
from tests.golden_cases import BLOCKS, FOLDER, METHODS, compare_with_golden, spec_of


@pytest.mark.slow
@pytest.mark.parametrize("name", list(METHODS))
def test_graphs_are_what_their_golden_says(name: str, graph_golden: GraphGolden):
    compare_with_golden(name, graph_golden)


def test_every_golden_is_compared_and_says_how_it_is_built():
    assert {path.stem for path in FOLDER.iterdir()} == set(METHODS)
    for name, method in METHODS.items():
        head = read_golden(FOLDER / f"{name}.txt").head
        assert (head["spec"], head["method"], head["steps"]) == (spec_of(name), repr(method), "50")


@pytest.mark.parametrize("name", list(METHODS))
def test_goldens_hold_all_blocks_and_are_short_enough_to_be_read(name: str):
    path = FOLDER / f"{name}.txt"
    assert read_golden(path).sections["sites"].facts["blocks"] == BLOCKS[spec_of(name)]
    assert len(path.read_text().splitlines()) < 850


def test_the_excerpts_in_the_guide_are_of_our_golden():
    guide = FOLDER.parents[1].joinpath("docs", "graph_tests.md").read_text().partition("## What a golden says")[2]
    shown = [line[4:] for line in guide.splitlines() if line.startswith("    ")]
    assert len(shown) > 10
    assert set(shown) <= set((FOLDER / "demo-taylorseer-branch.txt").read_text().splitlines())


@pytest.mark.parametrize(
    ("name", "published"),
    [
        ("dit-xl-2", 23.74e12 / 50),  # a guided step, of batch 2
        ("flux-dev", 2 * 3719.5e12 / 50),  # captured at batch 2
    ],
)
def test_flops_of_a_step_are_those_that_publications_count(name: str, published: float):
    flops = read_golden(FOLDER / f"{name}.txt").sections["compute"].facts["FLOPs"]
    assert int(flops.split()[0].replace(",", "")) == pytest.approx(published, rel=1e-3)
