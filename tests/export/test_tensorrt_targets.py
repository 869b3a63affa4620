"""Names of targets, the libraries behind them, and profiles: what is refused, and in which words."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from fouriercache import tensorrt_library
from fouriercache.errors import EngineError, MissingExtraError, TargetError
from fouriercache.export.tensorrt import TARGETS, Profile, target_from_name
from fouriercache.tensorrt_library import Library, describe_library, find_library


def module(version: str, *capabilities: str) -> ModuleType:
    """A module that says of itself what TensorRT's do."""
    made = ModuleType("tensorrt")
    vars(made)["__version__"] = version
    if capabilities:
        vars(made)["ComputeCapability"] = SimpleNamespace(**dict.fromkeys(capabilities))
    return made


def test_every_target_is_found_by_its_name():
    assert {target_from_name(name).name for name in TARGETS} == set(TARGETS)
    assert target_from_name("tensorrt:sm89").folder == "sm89"


def test_an_unknown_target_is_refused_with_all_there_are():
    with pytest.raises(TargetError) as refused:
        target_from_name("tensorrt:sm88")
    assert all(name in str(refused.value) for name in TARGETS)


@pytest.mark.parametrize("name", ["tensorrt:sm90", "tensorrt:sm100"])
def test_a_data_center_gpu_is_refused_with_what_it_needs(name):
    with pytest.raises(TargetError, match=r"cannot be built ahead of time(.|\n)*tensorrt:current"):
        target_from_name(name)


def test_the_current_gpu_cannot_be_a_target_without_one():
    target = target_from_name("tensorrt:current")
    with pytest.raises(TargetError, match="there is none"):
        target.check(Library("TensorRT", "10.16.0", module("10.16.0")), has_gpu=False)
    target.check(Library("TensorRT", "10.16.0", module("10.16.0")), has_gpu=True)


def test_a_named_gpu_needs_a_library_that_builds_for_it():
    target = target_from_name("tensorrt:sm89")
    target.check(Library("TensorRT-RTX", "1.7.1.116", module("1.7.1.116", "SM89")), has_gpu=False)
    for library in (
        Library("TensorRT", "11.0.0", module("11.0.0")),
        Library("TensorRT-RTX", "1.7.0", module("1.7.0", "SM86")),
    ):
        with pytest.raises(TargetError, match=r"does not build for tensorrt:sm89(.|\n)*'\.\[rtx\]'"):
            target.check(library, has_gpu=True)


@pytest.mark.parametrize(
    ("flavour", "version"),
    [("TensorRT", "10.16.1.11"), ("TensorRT", "11.2.0"), ("TensorRT-RTX", "1.7.1.116"), ("TensorRT-RTX", "1.9.0")],
)
def test_knows_versions_of_both_flavours(flavour, version):
    assert str(describe_library(flavour, module(version))) == f"{flavour} {version}"


@pytest.mark.parametrize(
    ("flavour", "version"),
    [("TensorRT", "10.15.9"), ("TensorRT", "12.0.0"), ("TensorRT-RTX", "1.6.1"), ("TensorRT-RTX", "2.0"),
     ("TensorRT", "unknown")],
)  # fmt: skip
def test_a_version_from_outside_the_range_is_refused(flavour, version):
    with pytest.raises(EngineError, match="does not know"):
        describe_library(flavour, module(version))


def test_a_machine_with_neither_flavour_is_told_which_extra_brings_which(monkeypatch):
    monkeypatch.setattr(tensorrt_library, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"'\.\[rtx\]'(.|\n)*'\.\[gpu\]'"):
        find_library()


@pytest.mark.parametrize(
    "sizes",
    [
        {"least": 3},
        {"typical": 9},
        {"least": 0},
        {"least": 1.0},
        {"most": True},
        {"least": "1"},
    ],
)
def test_a_profile_whose_sizes_make_no_sense_is_refused(sizes):
    with pytest.raises(TargetError, match="least <= typical <= most"):
        Profile(**sizes)


def test_the_page_lists_every_target_as_the_errors_do():
    page = (Path(__file__).parents[2] / "docs" / "tensorrt.md").read_text()
    for target in TARGETS.values():
        assert f"| `{target.name}` | {target.gpus} |" in page
