"""A model and one call of it, by name: what the command line and goldens of graphs speak of as a spec."""

from __future__ import annotations

import importlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from fouriercache.checks import suggest
from fouriercache.errors import ModelSpecError
from fouriercache.models.demo import SHAPE, load_demo_model
from fouriercache.models.full_size import FULL_SIZE, build_full_size
from fouriercache.program import TokenGrid

__all__ = ["SPECS", "Example", "build_example"]

SPECS = ("demo", *FULL_SIZE)
"""Names of models that come with the package: the shipped one, then those of published size, without weights."""

_FORMS = "a name, NAME@BLOCKS for a published model of fewer blocks, or package.module:function"


@dataclass(frozen=True)
class Example:
    """A model in eval mode, the keyword arguments of one call, and the token grid if the graph does not show it."""

    model: nn.Module
    inputs: Mapping[str, Any]
    grid: TokenGrid | None = None


def build_example(spec: str) -> Example:
    """Build what a spec names: a model of `SPECS`, one of published size with fewer blocks, or your own.

    "demo" is the shipped model with its weights; "flux-dev" is FLUX.1-dev on the meta device, "flux-dev@2" the same
    with two blocks of each kind. "package.module:function" is called without arguments and returns a model and the
    keyword arguments of one call, as a tuple, or an `Example`.

    Raises:
        ModelSpecError: there is no such model, or the function cannot be imported, fails, or returns something else.
        WeightsError: the shipped weights are missing or broken.
    """
    if spec == "demo":
        return _demo()
    if ":" in spec:
        return _from_function(spec)
    found = re.fullmatch(r"(.+?)(?:@([1-9]\d*))?", spec)
    name, depth = (found[1], found[2]) if found else (spec, None)
    if name not in FULL_SIZE:
        raise ModelSpecError(
            f"No model is called {name!r}.\n"
            f"  where: {spec!r}, which should be {_FORMS}\n"
            f"  Use one of {', '.join(SPECS)}.{suggest(name, SPECS)}"
        )
    model, inputs = build_full_size(name, depth=None if depth is None else int(depth))
    return Example(model, inputs, FULL_SIZE[name].grid)


def _demo() -> Example:
    inputs = {
        "hidden_states": torch.zeros(2, *SHAPE),
        "timestep": torch.tensor([500, 500]),
        "class_labels": torch.tensor([0, 1]),
    }
    return Example(load_demo_model(), inputs)


def _from_function(spec: str) -> Example:
    path, _, name = spec.partition(":")
    try:
        made: Any = getattr(importlib.import_module(path), name)()
    except Exception as error:  # the caller's own code may raise anything
        raise ModelSpecError(
            f"The model of {spec!r} cannot be built: {type(error).__name__}: {error}\n"
            f"  A spec is {_FORMS}; the function takes nothing."
        ) from error
    if isinstance(made, Example):
        return made
    model, inputs = made if isinstance(made, tuple) and len(made) == 2 else (None, None)
    if not isinstance(model, nn.Module) or not isinstance(inputs, Mapping):
        raise ModelSpecError(
            f"{spec!r} returned {type(made).__name__}, not a model and the keyword arguments of one call.\n"
            "  Return (model, {'hidden_states': ..., 'timestep': ...}); tensors on the meta device will do."
        )
    return Example(model, inputs)
