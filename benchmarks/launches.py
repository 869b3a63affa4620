"""Counting what a call asks ATen to do, while it runs."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch._higher_order_ops.flex_attention import flex_attention
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes
from torch.utils.flop_counter import flop_registry

_GATHERS = ("embedding", "gather", "index", "index_select")
"""Calls that read of their first tensor what they return, not all of it."""


class CountCalls(TorchDispatchMode):
    """Counts what ATen is asked to do while it is open.

    Attributes:
        launches: calls that compute or copy; a call whose result shares its input's memory is a view and is free.
        moved: bytes of the tensors that launches are given and return, each tensor once for a launch; a dimension
            that is expanded counts once.
        targets: calls by operator, views and all.
    """

    supports_higher_order_operators = True
    """flex_attention is one launch: what it is made of where there is no kernel is not counted."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.launches = 0
        self.moved = 0
        self.targets: dict[str, int] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run the call and count it."""
        result = func(*args, **(kwargs or {}))
        is_operator = isinstance(func, torch._ops.OpOverload)
        name = func.overloadpacket.__name__ if is_operator else func.name()
        self.targets[name] = self.targets.get(name, 0) + 1
        if (is_operator and func._schema.is_mutable) or not _memory(result) <= _memory((args, kwargs)):
            self.launches += 1
            written = _bytes(result)
            self.moved += written + _bytes((args, kwargs))
            if name in _GATHERS:
                self.moved += written - _bytes(args[0])
        return result


class CountFlex(TorchDispatchMode):
    """Counts flex_attention by the formula that torch's counter has for it, but does not come to use."""

    supports_higher_order_operators = True

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.flops = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run the call and count it; what flex_attention is made of where there is no kernel, no counter sees."""
        kwargs = kwargs or {}
        if func is not flex_attention:
            return func(*args, **kwargs)
        with _disable_current_modes():
            result = func(*args, **kwargs)
        self.flops += flop_registry[func](*args, **kwargs, out_val=result)
        return result


def _tensors(values: Any) -> list[Tensor]:
    return [leaf for leaf in torch.utils._pytree.tree_leaves(values) if isinstance(leaf, Tensor)]


def _memory(values: Any) -> set[int]:
    return {leaf.untyped_storage()._cdata for leaf in _tensors(values)}


def _bytes(values: Any) -> int:
    """Bytes of the tensors; 0 for what is traced meanwhile, whose sizes are no numbers and must not be asked for."""
    seen = {}
    for leaf in _tensors(values):
        if all(type(size) is int for size in leaf.shape):
            seen[leaf.untyped_storage()._cdata, leaf.storage_offset(), leaf.shape, leaf.stride()] = leaf
    total = 0
    for leaf in seen.values():
        stored = leaf.element_size()
        for size, stride in zip(leaf.shape, leaf.stride(), strict=True):
            stored *= size if stride else 1
        total += stored
    return total


def executed_share(calls: CountCalls, layers: int) -> float:
    """Computed steps, as counted: attentions and MLPs that ran, over those of one full step."""
    names = ("_scaled_dot_product_flash_attention_for_cpu", "gelu", "gelu_")  # the last writes over what it is given
    return sum(calls.targets.get(name, 0) for name in names) / (2 * layers)
