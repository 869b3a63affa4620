"""A missing extra is an error that names it."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from fouriercache.errors import MissingExtraError
from fouriercache.extras import EXTRA_OF, import_extra


@pytest.mark.parametrize("name", sorted(EXTRA_OF))
def test_names_the_extra_that_brings_a_missing_package(name, monkeypatch):
    def find_nothing(wanted):
        raise ModuleNotFoundError(f"No module named {wanted!r}", name=wanted)

    monkeypatch.setattr("fouriercache.extras.import_module", find_nothing)
    with pytest.raises(MissingExtraError, match=rf"pip install '\.\[{EXTRA_OF[name]}\]' in"):
        import_extra(name)


def test_lets_through_what_an_installed_package_fails_to_import(monkeypatch):
    def find_half(wanted):
        raise ModuleNotFoundError("No module named 'protobuf'", name="protobuf")

    monkeypatch.setattr("fouriercache.extras.import_module", find_half)
    with pytest.raises(ModuleNotFoundError, match="protobuf"):
        import_extra("onnx")


def test_every_extra_named_is_one_that_can_be_installed():
    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]
    for name, extra in EXTRA_OF.items():
        needs = " ".join(project["optional-dependencies"][extra]).replace("-", "_")
        assert name.removesuffix("_bindings") in needs
