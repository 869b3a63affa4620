"""Our own goldens: what every kind of method makes of the shipped model, and TaylorSeer of three published ones.

`fouriercache check tests/graphs/*.txt` compares the same files. What torch.export makes of a model is a matter of the
torch release, so they hold for the releases they were made with.
"""

from __future__ import annotations

import re
from importlib import metadata
from pathlib import Path

import pytest

import fouriercache as fc
from fouriercache.models.examples import build_example
from fouriercache.testing.golden import read_golden
from pytest_fouriercache import GraphGolden

FOLDER = Path(__file__).with_name("graphs")
METHODS = {
    "demo-fora-stack": fc.FORA(site="stack"),
    "demo-taylorseer-branch": fc.TaylorSeer(),
    "demo-freqca": fc.FreqCa(),
    "demo-toca": fc.ToCa(),
    "demo-teacache": fc.TeaCache(),
    "dit-xl-2": fc.TaylorSeer(),
    "flux-dev": fc.TaylorSeer(),
    "wan-14b": fc.TaylorSeer(),
}
BLOCKS = {
    "demo": "8 diffusers.models.attention.BasicTransformerBlock in transformer_blocks",
    "dit-xl-2": "28 diffusers.models.attention.BasicTransformerBlock in transformer_blocks",
    "flux-dev": "19 diffusers.models.transformers.transformer_flux.FluxTransformerBlock in transformer_blocks, "
    "38 diffusers.models.transformers.transformer_flux.FluxSingleTransformerBlock in single_transformer_blocks",
    "wan-14b": "40 diffusers.models.transformers.transformer_wan.WanTransformerBlock in blocks",
}


def spec_of(name: str) -> str:
    return "demo" if name.startswith("demo-") else name


def is_of_these_releases(name: str) -> bool:
    """Whether the golden was made with the releases of torch and diffusers that are here; minor ones do not count."""
    path = FOLDER / f"{name}.txt"
    if not path.exists():
        return True  # the comparison says what to do
    made_with = re.findall(r"(\w+) (\d+\.\d+)", read_golden(path).head["made with"])
    return all(metadata.version(package).startswith(f"{release}.") for package, release in made_with)


@pytest.mark.slow
@pytest.mark.parametrize("name", list(METHODS))
def test_graphs_are_what_their_golden_says(name: str, graph_golden: GraphGolden):
    if not is_of_these_releases(name):
        pytest.skip("the golden was made with another release of torch or diffusers")
    example = build_example(spec_of(name))
    fast = fc.optimize(example.model, METHODS[name], num_steps=50, example_inputs=example.inputs, grid=example.grid)
    graph_golden(fast, f"{name}.txt", spec=spec_of(name))


def test_every_golden_is_compared_and_says_how_it_is_built():
    assert {path.stem for path in FOLDER.iterdir()} == set(METHODS)
    for name, method in METHODS.items():
        head = read_golden(FOLDER / f"{name}.txt").head
        assert (head["spec"], head["method"], head["steps"]) == (spec_of(name), repr(method), "50")


@pytest.mark.parametrize("name", list(METHODS))
def test_goldens_hold_all_blocks_and_are_short_enough_to_be_read(name: str):
    path = FOLDER / f"{name}.txt"
    assert read_golden(path).sections["sites"].facts["blocks"] == BLOCKS[spec_of(name)]
    assert len(path.read_text().splitlines()) < 800


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
