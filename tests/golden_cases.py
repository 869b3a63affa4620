"""Our own goldens: which there are, and how one is compared."""

from __future__ import annotations

import re
from importlib import metadata
from pathlib import Path

import pytest

import fouriercache as fc
from fouriercache.cli.build import Captures
from fouriercache.testing.golden import read_golden
from pytest_fouriercache import GraphGolden

CAPTURES = Captures()
"""As `fouriercache check` builds the models: the shipped one is captured once for all its methods."""
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


def compare_with_golden(name: str, graph_golden: GraphGolden) -> None:
    """Capture the model of a golden and compare its graphs; skips where the golden is of other releases."""
    if not is_of_these_releases(name):
        pytest.skip("the golden was made with another release of torch or diffusers")
    fast = CAPTURES.optimize(spec_of(name), METHODS[name], 50)
    graph_golden(fast, f"{name}.txt", spec=spec_of(name))
