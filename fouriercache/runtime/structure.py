"""What a capture depends on besides the values of the weights, and how to see that it has changed."""

from __future__ import annotations

import torch
from torch import nn
from torch.utils.hooks import RemovableHandle

_OWN = frozenset(vars(nn.Module()))
"""What every module has: weights, children, hooks, which are looked at one by one, and what is torch's alone."""

_NOTES = frozenset(("_diffusers_hook", "_hf_peft_config_loaded"))
"""What diffusers notes in a module, and no forward reads. Its hooks are seen all the same: they replace `forward`."""

_PLAIN = frozenset((bool, int, float, complex, str, bytes, type(None), torch.dtype, torch.device))


def structure_of(model: nn.Module) -> list[object]:
    """Return what the model's graph depends on, to be compared with what it was at another time.

    That is: the modules; their hooks, training flags and plain attributes (numbers, strings, None, and dicts, lists and
    tuples of them: a LoRA's scale, a switch), which a capture bakes in; name, shape, dtype and device of each weight.
    Linear in the number of modules, weights and attributes; no value of a tensor is read. One flat list, as it is made
    once a trajectory, and thousands of small tuples would set off the garbage collector each time.
    """
    found: list[object] = []
    add = found.append
    for name, module in model.named_modules():
        attributes = vars(module)
        add(name)
        add(module)  # not its id: that of a module that is gone may come back
        add(module.training)
        found += module._forward_pre_hooks
        found += ("pre-hooks, hooks", *module._forward_hooks)
        add(attributes.get("forward"))  # diffusers' hooks put theirs here
        add(attributes.get("processor"))  # what computes attention in diffusers
        for key, value in attributes.items():
            if key not in _OWN and key not in _NOTES:
                add(key)
                _add_plain(value, found)
        for weights in (module._parameters, module._buffers):
            for key, weight in weights.items():
                if weight is not None:
                    found += (key, *weight.shape, weight.dtype, weight.device)
    return found


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


def _add_plain(value: object, found: list[object]) -> None:
    """Add what is plain in a value; containers are walked, so that what is changed in them later is seen.

    The type stands beside a value, as True, 1 and 1.0 are equal and a model may tell them apart.
    """
    kind = type(value)
    if kind in _PLAIN:
        found += (kind, value)
    elif isinstance(value, dict):
        for key, inner in value.items():
            found.append(key)
            _add_plain(inner, found)
    elif isinstance(value, list | tuple):
        found.append(len(value))
        for inner in value:
            _add_plain(inner, found)
