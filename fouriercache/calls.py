"""How a call of the user's model maps to flat tensors, and back: names, nesting, constants, output types."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses import FakeTensor
from torch.utils import _pytree as pytree

from fouriercache.checks import suggest
from fouriercache.errors import CaptureError

_TIMESTEP_NAMES = ("timestep", "timesteps", "t", "time", "sigma", "noise_level")
"""Argument names that hold the timestep, in order of preference."""

_SAMPLE_NAMES = ("hidden_states", "x", "sample", "latents")
"""Argument names that hold what is denoised, whatever stands before them."""

_MOST_ORDERS = 64
"""How many lists of argument names are remembered as fitting."""


@dataclass(frozen=True)
class Call:
    """One call of the model, flattened.

    Attributes:
        tensors: the tensor leaves, in order.
        paths: a printable name for each of them: "hidden_states", "added_cond_kwargs['resolution']".
        key: everything about the call that a capture bakes in: nesting, constants, torch.autocast. Equal keys, equal
            code path.
        autocast: the devices on which torch.autocast is on, and to what it casts.
    """

    tensors: tuple[Tensor, ...]
    paths: tuple[str, ...]
    key: tuple[Any, ...]
    autocast: tuple[tuple[str, torch.dtype], ...]

    @cached_property
    def form(self) -> tuple[object, ...]:
        """What may not change in mid-trajectory: names, dtypes, shapes and devices of the tensors, and autocast."""
        forms = ((p, t.dtype, tuple(t.shape), t.device) for p, t in zip(self.paths, self.tensors, strict=True))
        return (*forms, ("torch.autocast", self.autocast))


class Binder:
    """Binds calls to the parameters of `model.forward`, so positional and keyword calls are one.

    Args:
        signature: in place of that of `model.forward`, for a model whose code is not there.

    Raises:
        CaptureError: the model's forward takes `*args`, whose meaning no name tells.
    """

    def __init__(self, model: nn.Module, signature: inspect.Signature | None = None) -> None:
        self.signature = signature or inspect.signature(model.forward)
        self._orders: dict[tuple[str, ...], tuple[str, ...]] = {}
        for parameter in self.signature.parameters.values():
            if parameter.kind is inspect.Parameter.VAR_POSITIONAL:
                raise CaptureError(
                    f"{type(model).__name__}.forward takes *{parameter.name}; a captured graph needs named inputs.\n"
                    "  Give forward named parameters, or wrap the model in a module whose forward has them."
                )

    def arguments(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """Return the call as keyword arguments, in the order of the signature.

        Raises:
            TypeError: as Python itself does when the arguments do not fit the signature.
        """
        given = tuple(kwargs)
        if not args and given in self._orders:  # the same names fit again, and binding takes longer than a small graph
            return {name: kwargs[name] for name in self._orders[given]}
        bound = self.signature.bind(*args, **kwargs)
        found: dict[str, Any] = {}
        for name, value in bound.arguments.items():
            if self.signature.parameters[name].kind is inspect.Parameter.VAR_KEYWORD:
                found.update(value)
            else:
                found[name] = value
        if not args and len(self._orders) < _MOST_ORDERS:
            self._orders[given] = tuple(found)
        return found

    def example(self, arguments: object) -> dict[str, Any]:
        """Return the named arguments of one call, once it is known that they fit the signature.

        Raises:
            CaptureError: they are not named, or the names are not the model's.
        """
        known = [name for name, given in self.signature.parameters.items() if given.kind is not given.VAR_KEYWORD]
        if not isinstance(arguments, Mapping):
            raise CaptureError(
                f"the inputs to capture are a {type(arguments).__name__}, not a dict of keyword arguments.\n"
                f"  Pass them by name: {{'{known[0] if known else 'hidden_states'}': tensor, ...}}; the model takes "
                f"{', '.join(known)}."
            )
        try:
            return self.arguments((), arguments)
        except TypeError as error:
            unknown = [name for name in arguments if name not in known]
            hint = suggest(unknown[0], known) if unknown else ""
            raise CaptureError(
                f"the inputs to capture do not fit the model: {error}.\n"
                f"  where: {', '.join(map(str, arguments)) or 'no inputs'}\n"
                f"  The model takes {', '.join(known)}.{hint}"
            ) from error

    def flatten(self, arguments: Mapping[str, Any]) -> Call:
        """Split the arguments into tensor leaves and the key of everything else.

        Raises:
            CaptureError: a leaf is neither a tensor nor a plain constant.
        """
        tensors: list[Tensor] = []
        paths: list[str] = []
        key: list[Any] = []
        for name, value in arguments.items():
            if isinstance(value, Tensor):
                tensors.append(value)
                paths.append(name)
                key.append(name)
            elif value is None or isinstance(value, bool | int | float | str):
                key.append(_constant(name, value))
            else:
                _flatten_nested(name, value, tensors, paths, key)
        autocast = _autocast_of(tensors)
        return Call(tuple(tensors), tuple(paths), (*key, *autocast), autocast)


def apart(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments with a copy wherever a tensor stands a second time.

    torch.export takes a tensor that is given twice for one input, and a call in which the two differ would be served
    with one of them.
    """
    seen: set[int] = set()

    def own(leaf: Any) -> Any:
        if not isinstance(leaf, Tensor):
            return leaf
        if id(leaf) in seen:
            return leaf.detach().clone()
        seen.add(id(leaf))
        return leaf

    return {name: pytree.tree_map(own, value) for name, value in arguments.items()}


def _autocast_of(tensors: Sequence[Tensor]) -> tuple[tuple[str, torch.dtype], ...]:
    """The devices on which torch.autocast is on, and to what it casts: a capture bakes the casts in."""
    devices = sorted({tensor.device.type for tensor in tensors} - {"meta"})
    return tuple((f"autocast {d}", torch.get_autocast_dtype(d)) for d in devices if torch.is_autocast_enabled(d))


def _flatten_nested(name: str, value: Any, tensors: list[Tensor], paths: list[str], key: list[Any]) -> None:
    leaves, spec = pytree.tree_flatten_with_path(value)
    key.append((name, str(spec)))
    for path, leaf in leaves:
        if isinstance(leaf, Tensor):
            tensors.append(leaf)
            paths.append(name + pytree.keystr(path))
        elif leaf is None or isinstance(leaf, bool | int | float | str):
            key.append(_constant(name + pytree.keystr(path), leaf))
        else:
            raise CaptureError(
                f"argument {name}{pytree.keystr(path)} is a {type(leaf).__name__}; a graph takes tensors and plain "
                "constants (bool, int, float, str, None).\n  Convert it before the call."
            )


def _constant(path: str, value: object) -> tuple[str, type, str]:
    """What a constant is in a key: by text, for `1 == True`, `0.0 == -0.0` and `nan != nan`, and a model may ask."""
    return path, type(value), repr(value)


def changing_constant(key: Sequence[Any], others: Iterable[Sequence[Any]]) -> tuple[str, list[str]] | None:
    """Say which number alone sets `key` apart from keys of `others`, and what it is in each of those.

    Where several do, it is the one that has most values.
    """
    found: dict[str, list[str]] = {}
    for other in others:
        pairs = [(a, b) for a, b in zip(key, other, strict=False) if a != b]
        if len(key) == len(other) and len(pairs) == 1 and all(_is_number(entry) for entry in pairs[0]):
            (path, _, _), (before, _, value) = pairs[0]
            if path == before:
                found.setdefault(path, []).append(value)
    return max(found.items(), key=lambda item: len(item[1]), default=None)


def _is_number(entry: object) -> bool:
    return isinstance(entry, tuple) and len(entry) == 3 and entry[1] in (int, float)


def find_timestep(paths: Sequence[str], tensors: Sequence[Tensor], asked: str | None) -> int:
    """Return the index of the tensor leaf that holds the timestep: one for all, for each sample, or for each token.

    A known name goes before one that ends like a known name (`vision_timesteps`), few dimensions before many.

    Raises:
        CaptureError: no leaf has a known name, or `asked` names none.
    """
    names = _TIMESTEP_NAMES if asked is None else (asked,)
    leaves = [(path, index, tensor.ndim) for index, (path, tensor) in enumerate(zip(paths, tensors, strict=True))]
    for most in (1, 3):
        flat = [(path, index) for path, index, rank in leaves if rank <= most]
        exact = [index for name in names for path, index in flat if path == name]
        alike = [index for name in names for path, index in flat if path.endswith(f"_{name}")]
        if exact or alike:
            return (exact or alike)[0]
    wanted = f"called {asked!r}" if asked else f"with one of the names {', '.join(_TIMESTEP_NAMES)}"
    raise CaptureError(
        f"found no timestep input: no tensor of at most three dimensions {wanted} among {', '.join(paths)}.\n"
        "  Pass it to the call as a tensor, or name it: optimize(model, method, timestep_name='...')."
    )


def find_sample(paths: Sequence[str], tensors: Sequence[Tensor], asked: str | None) -> tuple[int, ...]:
    """Return the indices of the tensor leaves that are denoised, one or more: a list of samples is one argument.

    It is the argument `asked` for, else the one with a known name, else that of the first leaf of three or more
    dimensions, where none has so many of the first floating-point leaf of two.

    Raises:
        CaptureError: there is none.
    """
    leaves = [(path, _argument(path), tensor) for path, tensor in zip(paths, tensors, strict=True)]
    dense = [(argument, tensor.ndim) for _, argument, tensor in leaves if tensor.is_floating_point()]
    if asked is None:
        named = [name for name in _SAMPLE_NAMES for argument, rank in dense if argument == name and rank >= 2]
        found = [*named, *(argument for least in (3, 2) for argument, rank in dense if rank >= least)][:1]
    else:
        found = [argument for path, argument, _ in leaves if asked in (path, argument)][:1]
    of_argument = [i for i, (_, argument, tensor) in enumerate(leaves) if argument in found and tensor.ndim >= 2]
    if of_argument:
        return tuple(of_argument)
    wanted = f"called {asked!r}" if asked else "that is floating point"
    raise CaptureError(
        f"found no sample input: no tensor {wanted} with two or more dimensions, in: "
        f"{', '.join(paths) or 'no tensors'}.\n"
        "  Pass a model that denoises latents, and name them if need be: optimize(model, method, sample_name='...')."
    )


def _argument(path: str) -> str:
    return path.partition("[")[0]


def find_samples(call: Call, known: Sequence[int], results: Sequence[Tensor | None]) -> frozenset[int]:
    """Return the indices of all tensors that are denoised, given those whose names tell.

    A model of several modalities (video and sound) returns what is to be taken from each. So an input that is the only
    one of a further result's shape is one of them.
    """
    found = set(known)
    for result in results[len(known) :]:
        if result is not None and result.ndim >= 3 and result.is_floating_point():
            alike = [
                i
                for i, tensor in enumerate(call.tensors)
                if i not in found and tensor.is_floating_point() and str(tensor.shape[1:]) == str(result.shape[1:])
            ]
            found |= set(alike) if len(alike) == 1 else set()
    return frozenset(found)


def describe(tensors: Sequence[Tensor], paths: Sequence[str]) -> str:
    """List the tensors: `hidden_states float32[2, 3, 32, 32] on cpu, ...`."""
    return ", ".join(
        f"{path} {str(t.dtype).removeprefix('torch.')}{list(t.shape)} on {t.device}"
        for path, t in zip(paths, tensors, strict=True)
    )


def has_values(arguments: Mapping[str, Any]) -> bool:
    """Whether a model can be run on the inputs: none is fake or on the meta device."""
    leaves = pytree.tree_leaves(dict(arguments))
    return not any(isinstance(leaf, Tensor) and (leaf.is_meta or isinstance(leaf, FakeTensor)) for leaf in leaves)


def detached(tensors: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """Cut the tensors off the autograd graph; free when there is none."""
    return tuple(t.detach() for t in tensors) if torch.is_grad_enabled() else tuple(tensors)
