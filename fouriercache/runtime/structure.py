"""What a capture depends on besides the values of the weights, and how to see that it has changed."""

from __future__ import annotations

from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

_OWN = frozenset(vars(nn.Module()))
"""What every module has: weights, children, hooks, which are looked at one by one, and what is torch's alone."""

_NOTES = frozenset(("_diffusers_hook", "_hf_hook", "_hf_peft_config_loaded"))
"""What diffusers and accelerate note in a module, and no forward reads. Hooks are seen: they replace `forward`."""

_PLAIN = frozenset((bool, int, float, complex, str, bytes, type(None), torch.dtype, torch.device))

_WHOLE = (type, ModuleType, FunctionType, MethodType, BuiltinFunctionType, nn.Module)
"""What is looked at as a whole: which one it is, and not what is in it. Modules of the model are walked as such."""


class _Same:
    """An object that is equal to itself alone. Not its id, as that of an object that is gone may come back."""

    __slots__ = ("_value",)

    def __init__(self, value: object) -> None:
        self._value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and self._value is other._value

    def __hash__(self) -> int:
        return id(self._value)


def structure_of(model: nn.Module) -> list[object]:
    """Return what the model's graph depends on, to be compared with what it was at another time.

    That is: the modules; their hooks, training flags and attributes, which a capture bakes in; name, shape, dtype and
    device of each weight. Of attributes: the values of numbers, strings and None (a LoRA's scale, a switch), also in
    dicts, lists, tuples and sets; which object it is of all else, with the attributes of an object (an attention
    processor's) and the version of a tensor that is no registered weight.

    Linear in the number of modules, weights and attributes; no value of a tensor is read. One flat list, as it is made
    once a trajectory, and thousands of small tuples would set off the garbage collector each time.
    """
    found: list[object] = []
    for name, module in model.named_modules():
        found += (name, "")
        _add_module(module, found)
        for key, value in vars(module).items():
            if key not in _OWN and key not in _NOTES:
                found += (name, key)
                _add_value(value, found, is_walked=True)
    return found


Places: TypeAlias = dict[tuple[str, str], list[object]]
"""A structure by its places: module and attribute, or "" for what is no attribute of the module."""


def places_of(model: nn.Module) -> Places:
    """Return the structure by its places, for the few times when it is asked what has changed."""
    found: Places = {}
    for name, module in model.named_modules():
        _add_module(module, found.setdefault((name, ""), []))
        for key, value in vars(module).items():
            if key not in _OWN and key not in _NOTES:
                _add_value(value, found.setdefault((name, key), []), is_walked=True)
    return found


def structure_at(places: Places) -> list[object]:
    """Return what `structure_of` returned of the same model at the same time."""
    return [part for place, parts in places.items() for part in (*place, *parts)]


def changed_places(before: Places, after: Places) -> set[tuple[str, str]]:
    """Return the places that are new, gone, or not what they were."""
    return {place for place in before.keys() | after.keys() if before.get(place) != after.get(place)}


def without_devices(structure: list[object]) -> list[object]:
    """Return a structure as it is wherever the weights lie: a pipeline that offloads moves them between runs."""
    return [part for part in structure if type(part) is not torch.device]


def hooks_made() -> int:
    """Return a number that grows with each hook that any module is given: equal numbers, no new hook."""
    return RemovableHandle.next_id


def hooks_of(model: nn.Module) -> list[object]:
    """Return the hooks of all modules that run in a forward pass."""
    found: list[object] = []
    for module in model.modules():
        found += module._forward_pre_hooks
        found += module._forward_hooks
    return found


def _add_module(module: nn.Module, found: list[object]) -> None:
    """Add which module it is, its mode, hooks, and the forms of its weights."""
    found += (module, module.training, *module._forward_pre_hooks, "pre-hooks, hooks", *module._forward_hooks)
    for weights in (module._parameters, module._buffers):
        for key, weight in weights.items():
            if weight is not None:
                found += (key, *weight.shape, weight.dtype, weight.device)


def _add_value(value: Any, found: list[object], *, is_walked: bool) -> None:
    """Add what can be seen of a value; containers are walked, so that what is changed in them later is seen.

    The type stands beside a value, as True, 1 and 1.0 are equal and a model may tell them apart.

    Args:
        is_walked: whether the attributes of an object are looked at, too; those of objects in them are not.
    """
    kind = type(value)
    if kind in _PLAIN:
        found += (kind, value)
    elif isinstance(value, dict):
        for key, inner in value.items():
            _add_value(key, found, is_walked=False)
            _add_value(inner, found, is_walked=is_walked)
    elif isinstance(value, list | tuple):
        found.append(len(value))
        for inner in value:
            _add_value(inner, found, is_walked=is_walked)
    elif isinstance(value, set | frozenset):  # two equal ones may have different orders
        found.append({(type(inner), inner if type(inner) in _PLAIN else _Same(inner)) for inner in value})
    else:
        found.append(_Same(value))
        if isinstance(value, Tensor):
            found.append(None if value.is_inference() else value._version)
        elif is_walked and not isinstance(value, _WHOLE):
            for key, inner in getattr(value, "__dict__", {}).items():
                found.append(key)
                _add_value(inner, found, is_walked=False)
