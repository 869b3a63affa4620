"""Every pass, on every tiny model, at every stage at which it accepts the program: found, not listed."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Iterator
from dataclasses import fields
from functools import cache
from typing import Literal, get_args, get_origin, get_type_hints

import pytest
import torch

from fouriercache import passes
from fouriercache.errors import PreconditionError
from fouriercache.passes.base import Pass
from fouriercache.passes.hoist_conditioning import HoistConditioning
from fouriercache.passes.specialize_step import SpecializeStep
from fouriercache.program import Program, sizes_of
from fouriercache.testing import check_pass
from tests import zoo
from tests.passes.stages import after, canonical_passes

DEPTHS = {"flux": 1, "wan": 1}  # the others have two blocks; these hold as many calls in one
ROUNDING = 2**-14  # passes that round do so in sums of at most some hundred float32 terms


def find_passes() -> Iterator[Pass]:
    """Yield every pass with its defaults, and with each value of an option that has a list of them."""
    for module in pkgutil.iter_modules(passes.__path__, "fouriercache.passes."):
        for _, cls in inspect.getmembers(importlib.import_module(module.name), inspect.isclass):
            if issubclass(cls, Pass) and cls is not Pass and cls.__module__ == module.name:
                hints = get_type_hints(cls)
                lists = {f.name: get_args(hints[f.name]) for f in fields(cls) if get_origin(hints[f.name]) is Literal}
                yield from [cls(**{name: value}) for name, values in lists.items() for value in values] or [cls()]


@cache
def _stage(name: str, stage: str) -> Program:
    if stage == "captured":
        return zoo.captured(name, DEPTHS.get(name, 2))
    if stage == "canonical":
        return after(_stage(name, "captured"), *canonical_passes("branch", 2))
    if stage == "one kept value":
        return after(_stage(name, "captured"), *canonical_passes("branch", 1))
    return after(_stage(name, "canonical"), SpecializeStep("reuse"), HoistConditioning())


def step(program: Program, name: str) -> dict[str, torch.Tensor]:
    """One call's inputs, slots of noise, coefficients that are not 1."""
    given = zoo.inputs(name, DEPTHS.get(name, 2))
    batch = next(iter(given.values())).shape[0]
    generator = torch.Generator().manual_seed(0)
    for node, wanted in zip(program.placeholders, program.inputs, strict=True):
        if wanted.role == "slot":
            shape = [size if isinstance(size, int) else batch for size in sizes_of(node.meta["val"])]
            given[node.name] = torch.randn(shape, generator=generator)
    return {**given, "coefficients": torch.tensor([1.5, -0.5])[: max(1, program.history)]}


PASSES = list(find_passes())


def test_finds_the_passes_of_every_file():
    assert {type(pass_).__name__ for pass_ in PASSES} >= {"RemoveNoops", "FindSites", "NarrowLinear", "OutlineCond"}
    assert [pass_ for pass_ in PASSES if isinstance(pass_, SpecializeStep)] == [
        SpecializeStep("compute"),
        SpecializeStep("reuse"),
        SpecializeStep("partial"),
    ]


@pytest.mark.parametrize("name", list(zoo.BUILDERS))
@pytest.mark.parametrize("pass_", PASSES, ids=repr)
def test_pass_keeps_its_contract_and_the_result(pass_: Pass, name: str):
    accepted: list[str] = []
    for stage in ("captured", "canonical", "reuse", "one kept value"):
        if accepted and stage == "one kept value":
            continue  # for passes that accept no longer history
        program = _stage(name, stage)
        try:
            count = pass_.apply(program.clone())
        except PreconditionError as error:
            if "\n" not in str(error):
                raise AssertionError("a refusal says what to do on a line of its own") from error
            continue
        accepted.append(stage)
        is_exact = "Error: exact" in (type(pass_).__doc__ or "")
        given = step(program, name)
        if isinstance(pass_, SpecializeStep):
            given["refresh"] = torch.tensor(pass_.mode == "compute")
        check_pass(pass_, program, given, rewrites=count, rtol=None if is_exact else ROUNDING)
    assert accepted, "no stage of a real model has what the pass requires"


@pytest.mark.parametrize("pass_", PASSES, ids=repr)
def test_pass_is_named_by_its_repr_and_compared_by_its_options(pass_: Pass):
    assert pass_ == type(pass_)(**{f.name: getattr(pass_, f.name) for f in fields(pass_)})
    assert hash(pass_) == hash(type(pass_)(**{f.name: getattr(pass_, f.name) for f in fields(pass_)}))
    assert repr(pass_).startswith(f"{type(pass_).__name__}(")


def test_a_refused_program_is_left_as_it_was():
    for pass_ in PASSES:
        program = _stage("dit", "captured").clone()
        before = program.text()
        try:
            pass_.apply(program)
        except PreconditionError:
            assert program.text() == before
