"""What a bundle returns: the results in the nesting and under the names that the model's own have."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import fields
from functools import cache, partial
from typing import Any

from torch import Tensor

from fouriercache.bundle import OutputTree
from fouriercache.errors import BundleError


class _ModelOutput(dict[str, Any]):
    """Results by name: `out.sample`, `out["sample"]`, `out[0]` and `out.to_tuple()`, as diffusers' outputs have it.

    It stands for the model's own class where diffusers is not loaded.
    """

    def __getattr__(self, name: str) -> Any:
        if name in self:
            return self[name]
        raise AttributeError(f"the model returns {', '.join(self)}, and no {name!r}")

    def __getitem__(self, key: Any) -> Any:
        return super().__getitem__(key) if isinstance(key, str) else self.to_tuple()[key]

    def to_tuple(self) -> tuple[Any, ...]:
        """The results that are there, in order."""
        return tuple(value for value in self.values() if value is not None)


def rebuild(tree: OutputTree, results: Sequence[Tensor]) -> Any:
    """Return the results as the tree says.

    A class of diffusers is taken where diffusers is loaded already; nothing is imported on the word of a manifest.
    """
    return _built(tree, iter(results))


def _built(tree: OutputTree, results: Iterator[Tensor]) -> Any:
    if tree.kind == "leaf":
        return next(results)
    if tree.kind == "constant":
        return tree.value
    parts = [_built(part, results) for part in tree.parts]
    if tree.kind in ("tuple", "list"):
        return tuple(parts) if tree.kind == "tuple" else parts
    named = dict(zip(tree.names, parts, strict=True))
    return named if tree.kind == "dict" else _class_of(tree.type)(named)


def _class_of(name: str) -> Any:
    """Return what makes an output of a mapping: diffusers' class of that name, if it is there, else ours."""
    module, _, leaf = name.rpartition(".")
    base = getattr(sys.modules.get("diffusers.utils.outputs"), "BaseOutput", None)
    found = getattr(sys.modules.get(module), leaf, None) if module.startswith("diffusers.") else None
    if isinstance(base, type) and isinstance(found, type) and issubclass(found, base):
        return partial(_instance, found)
    return _ModelOutput


@cache
def _fields_of(kind: Any) -> frozenset[str]:
    return frozenset(field.name for field in fields(kind))


def _instance(kind: Any, named: dict[str, Any]) -> Any:
    unknown = named.keys() - _fields_of(kind)
    if unknown:
        raise BundleError(
            f"the bundle's results are a {kind.__name__} with {', '.join(named)}, and diffusers' own has no "
            f"{', '.join(sorted(unknown))}.\n"
            "  Install the version of diffusers that the bundle's manifest names, or export again with this one."
        )
    return kind(**named)
