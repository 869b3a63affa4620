"""How a call of the user's model maps to flat tensors, and back: names, nesting, constants, output types."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from fouriercache.errors import CaptureError

_TIMESTEP_NAMES = ("timestep", "timesteps", "t", "time", "sigma", "noise_level")
"""Argument names that hold the timestep, in order of preference."""


@dataclass(frozen=True)
class Call:
    """One call of the model, flattened.

    Attributes:
        tensors: the tensor leaves, in order.
        paths: a printable name for each of them: "hidden_states", "added_cond_kwargs['resolution']".
        key: everything about the call that a capture bakes in: nesting, constants, torch.autocast. Equal keys, equal
            code path.
    """

    tensors: tuple[Tensor, ...]
    paths: tuple[str, ...]
    key: tuple[Any, ...]


class Binder:
    """Binds calls to the parameters of `model.forward`, so positional and keyword calls are one.

    Raises:
        CaptureError: the model's forward takes `*args`, whose meaning no name tells.
    """

    def __init__(self, model: nn.Module) -> None:
        self.signature = inspect.signature(model.forward)
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
        bound = self.signature.bind(*args, **kwargs)
        found: dict[str, Any] = {}
        for name, value in bound.arguments.items():
            if self.signature.parameters[name].kind is inspect.Parameter.VAR_KEYWORD:
                found.update(value)
            else:
                found[name] = value
        return found

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
                key.append((name, value))
            else:
                _flatten_nested(name, value, tensors, paths, key)
        return Call(tuple(tensors), tuple(paths), (*key, *autocast_of(tensors)))


def autocast_of(tensors: Sequence[Tensor]) -> list[tuple[str, torch.dtype]]:
    """Return the devices on which torch.autocast is on, and to what it casts: a capture bakes the casts in."""
    devices = sorted({tensor.device.type for tensor in tensors} - {"meta"})
    return [(f"autocast {d}", torch.get_autocast_dtype(d)) for d in devices if torch.is_autocast_enabled(d)]


def _flatten_nested(name: str, value: Any, tensors: list[Tensor], paths: list[str], key: list[Any]) -> None:
    leaves, spec = pytree.tree_flatten_with_path(value)
    constants = []
    for path, leaf in leaves:
        if isinstance(leaf, Tensor):
            tensors.append(leaf)
            paths.append(name + pytree.keystr(path))
        elif leaf is None or isinstance(leaf, bool | int | float | str):
            constants.append(leaf)
        else:
            raise CaptureError(
                f"argument {name}{pytree.keystr(path)} is a {type(leaf).__name__}; a graph takes tensors and plain "
                "constants (bool, int, float, str, None).\n  Convert it before the call."
            )
    key.append((name, str(spec), tuple(constants)))


def find_timestep(paths: Sequence[str], tensors: Sequence[Tensor], asked: str | None) -> int:
    """Return the index of the tensor leaf that holds the timestep.

    Raises:
        CaptureError: no leaf has a known name, or `asked` names none.
    """
    names = _TIMESTEP_NAMES if asked is None else (asked,)
    for name in names:
        if name in paths and tensors[list(paths).index(name)].ndim <= 1:
            return list(paths).index(name)
    wanted = f"called {asked!r}" if asked else f"with one of the names {', '.join(_TIMESTEP_NAMES)}"
    raise CaptureError(
        f"found no timestep input: no tensor of at most one dimension {wanted} among {', '.join(paths)}.\n"
        "  Pass it to the call as a tensor, or name it: optimize(model, method, timestep_name='...')."
    )


def find_sample(paths: Sequence[str], tensors: Sequence[Tensor], asked: str | None) -> int:
    """Return the index of the tensor leaf that is denoised: the one `asked` for, else the first of three or more dims.

    Raises:
        CaptureError: there is none.
    """
    for index, (path, tensor) in enumerate(zip(paths, tensors, strict=True)):
        if path == asked or (asked is None and tensor.ndim >= 3 and tensor.is_floating_point()):
            return index
    wanted = f"called {asked!r}" if asked else "that is floating point with three or more dimensions"
    raise CaptureError(
        f"found no sample input: no tensor {wanted} among {', '.join(paths) or 'no tensors'}.\n"
        "  Name it: optimize(model, method, sample_name='...')."
    )


def describe(tensors: Sequence[Tensor], paths: Sequence[str]) -> str:
    """List the tensors: `hidden_states float32[2, 3, 32, 32] on cpu, ...`."""
    return ", ".join(
        f"{path} {str(t.dtype).removeprefix('torch.')}{list(t.shape)} on {t.device}"
        for path, t in zip(paths, tensors, strict=True)
    )


def detached(tensors: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """Cut the tensors off the autograd graph; free when there is none."""
    return tuple(t.detach() for t in tensors) if torch.is_grad_enabled() else tuple(tensors)
