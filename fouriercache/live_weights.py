"""Where the weights of a graph stand in the user's model, by the names that torch.export gave them."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import compress, repeat
from operator import attrgetter, call, is_
from typing import Any
from weakref import ref

import torch
from torch import Tensor, nn

from fouriercache.errors import CaptureError, TrajectoryError

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
        self.leaf = leaf
        self.table: dict[str, Any] = owner._parameters if leaf in owner._parameters else owner._buffers

    @property
    def is_whole(self) -> bool:
        """Whether all of the weight is meant."""
        return self._index is None

    def get(self) -> Tensor | None:
        """Return the weight that stands there now; None when there is none any more."""
        whole: Tensor | None = self.table.get(self.leaf)
        if whole is None or self._index is None:
            return whole
        parts = list(plain_parts(whole))
        return parts[self._index] if self._index < len(parts) else None


class LiveWeights:
    """The weights of a graph, as they stand in the model now.

    They are asked for in every step, and there may be a hundred of them, each as far away in memory as the last: all
    looks are loops of the interpreter's own.

    Raises AttributeError when the model lacks one.
    """

    def __init__(self, model: nn.Module, paths: Sequence[str]) -> None:
        places = [WeightPlace(model, path) for path in paths]
        self._paths = [place.path for place in places]
        self._tables, self._leaves = [place.table for place in places], [place.leaf for place in places]
        self._inner = [(position, place) for position, place in enumerate(places) if not place.is_whole]
        links = _links(model, self._paths)
        self._ways = [path for path, *_ in links]
        self._parents: list[Any] = [parent._modules for _, parent, _, _ in links]
        self._names = [name for _, _, name, _ in links]
        self._modules = [module for *_, module in links]
        # `to` changes a weight's own dtype, so what it was must be known apart from it
        found = self._found()
        self._dtypes, self._devices = list(map(_DTYPE, found)), list(map(_DEVICE, found))
        self._replaced = itertools.count()
        self._seen = self._look(found)

    def get(self) -> list[Tensor]:
        """Return them, in the order of `paths`.

        Raises:
            CaptureError: one is gone, or a module on the way to one is another.
            TrajectoryError: one has another dtype or device than at first.
        """
        found = self._found()
        if list(map(_DTYPE, found)) != self._dtypes or list(map(_DEVICE, found)) != self._devices:
            raise self._other_form(found)
        return found

    def version(self) -> tuple[int, ...]:
        """Changes whenever a weight is replaced, or changed in place by an operation that leaves a trace.

        Operations on `weight.data`, and on weights made in torch.inference_mode, leave none. Raises as `get` does.
        """
        found = self.get()
        seen, is_counting, number = self._seen
        if not all(map(is_, found, map(call, seen))):
            self._seen = _, is_counting, number = self._look(found)
        return (number, *map(_VERSION, compress(found, is_counting)))

    def _look(self, found: Sequence[Tensor]) -> tuple[list[ref[Tensor]], list[bool], int]:
        """The weights, without holding them; which of them count what is written into them; a number for these."""
        return list(map(ref, found)), [not weight.is_inference() for weight in found], next(self._replaced)

    def _found(self) -> list[Tensor]:
        now: list[Any] = list(map(dict.get, self._parents, self._names))
        if not all(map(is_, now, self._modules)):
            pairs = zip(self._ways, now, self._modules, strict=True)
            raise changed_structure(next(path for path, new, old in pairs if new is not old))
        found: list[Any] = list(map(dict.get, self._tables, self._leaves))
        for position, place in self._inner:
            found[position] = place.get()
        if any(map(is_, found, repeat(None))):
            raise changed_structure(self._paths[[weight is None for weight in found].index(True)])
        return found

    def _other_form(self, found: Sequence[Tensor]) -> TrajectoryError:
        for path, live, dtype, device in zip(self._paths, found, self._dtypes, self._devices, strict=True):
            if live.dtype != dtype or live.device != device:
                where = f"{path}, from {dtype} on {device} to {live.dtype} on {live.device}"
                break
        return TrajectoryError(
            "the model's weights changed their dtype or device in mid-trajectory; cached features have the old "
            f"ones.\n  where: {where}\n"
            "  Move the model between trajectories, or reset() the session: the model is then captured again."
        )


_DTYPE, _DEVICE, _VERSION = attrgetter("dtype"), attrgetter("device"), attrgetter("_version")


def _links(model: nn.Module, paths: Sequence[str]) -> list[tuple[str, nn.Module, str, nn.Module]]:
    """Return every step from a module to its child on the way to a weight: path, parent, the child's name, child."""
    found: dict[str, tuple[str, nn.Module, str, nn.Module]] = {}
    for parts in (path.split(".")[:-1] for path in paths):
        for depth in range(1, len(parts) + 1):
            path = ".".join(parts[:depth])
            if path not in found:
                parent = model.get_submodule(".".join(parts[: depth - 1]))
                found[path] = (path, parent, parts[depth - 1], model.get_submodule(path))
    return list(found.values())


def changed_structure(path: str) -> CaptureError:
    """Return the error for a module, weight or hook that is not what it was when the graph in use was captured."""
    return CaptureError(
        "the model's structure has changed in mid-trajectory, and the captured graph is that of the old one.\n"
        f"  where: {path}\n"
        "  Change modules between trajectories, or reset() the session: the model is then captured again."
    )


def _has(model: nn.Module, path: str) -> bool:
    try:
        model.get_submodule(path)
    except AttributeError:
        return False
    return True


def released(attributes: Mapping[str, Any], sources: Mapping[str, str]) -> dict[str, Any]:
    """Return a program's attributes with the form alone of each weight that stands in the model: a meta tensor.

    Names of one weight keep one tensor. So a weight that the model replaces by another is held by nobody.
    """
    forms: dict[int, Tensor] = {}
    for name in sources:
        weight: Any = attributes.get(name)
        if type(weight) in (Tensor, nn.Parameter) and weight.layout is torch.strided and not weight.is_meta:
            form = torch.empty_strided(weight.shape, weight.stride(), dtype=weight.dtype, device="meta")
            is_parameter = isinstance(weight, nn.Parameter)
            made = nn.Parameter(form, requires_grad=weight.requires_grad) if is_parameter else form
            forms.setdefault(id(weight), made)
    return {name: forms.get(id(value), value) for name, value in attributes.items()}


def with_weights(model: nn.Module | None, attributes: Mapping[str, Any], sources: Mapping[str, str]) -> dict[str, Any]:
    """Return a program's attributes with the weights that now stand in the model, where there is but their form."""
    found = dict(attributes)
    for name, path in sources.items() if model is not None else ():
        weight = found.get(name)
        if model is not None and isinstance(weight, Tensor) and weight.is_meta:
            live = WeightPlace(model, path).get()
            found[name] = weight if live is None else live
    return found


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
