"""Where the weights of a graph stand in the user's model, by the names that torch.export gave them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

_UNWRAPPED = re.compile(r"(?P<owner>(?:.+\.)?)parametrizations\.(?P<leaf>[^.]+)\.original(?P<index>\d+)")
"""What torch.export calls the plain tensors in a weight that is a tensor subclass, as quantised ones are."""


class WeightPlace:
    """A place for a weight in a model: the table that holds it, its key, and which part of it is meant, if not all.

    Attributes:
        path: of the weight in the model. For a plain tensor inside a tensor subclass, the path of the whole.

    Raises AttributeError when the model has no module of that name.
    """

    def __init__(self, model: nn.Module, path: str) -> None:
        found = _UNWRAPPED.fullmatch(path)
        is_inner = found is not None and not _has(model, path.rpartition(".")[0])
        self.path = found["owner"] + found["leaf"] if found is not None and is_inner else path
        self._index = int(found["index"]) if found is not None and is_inner else None
        parent, _, leaf = self.path.rpartition(".")
        owner = model.get_submodule(parent)
        self._leaf = leaf
        self._table: dict[str, Any] = owner._parameters if leaf in owner._parameters else owner._buffers

    def get(self) -> Tensor | None:
        """Return the weight that stands there now; None when there is none any more."""
        whole: Tensor | None = self._table.get(self._leaf)
        if whole is None or self._index is None:
            return whole
        parts = list(plain_parts(whole))
        return parts[self._index] if self._index < len(parts) else None


def _has(model: nn.Module, path: str) -> bool:
    try:
        model.get_submodule(path)
    except AttributeError:
        return False
    return True


def plain_parts(weight: Tensor) -> Iterator[Tensor]:
    """Yield the plain tensors that a tensor subclass is made of, depth first, as torch.export numbers them.

    Of any other tensor, itself.
    """
    if type(weight) in (Tensor, nn.Parameter) or not hasattr(weight, "__tensor_flatten__"):
        yield weight
        return
    for name in weight.__tensor_flatten__()[0]:
        part = getattr(weight, name)
        if isinstance(part, torch.Tensor):
            yield from plain_parts(part)
