"""Counting what a call asks ATen to do, while it runs."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode


class CountCalls(TorchDispatchMode):
    """Counts what ATen is asked to do while it is open.

    Attributes:
        launches: calls that compute or copy; a call whose result shares its input's memory is a view and is free.
        targets: calls by operator, views and all.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.launches = 0
        self.targets: dict[str, int] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run the call and count it."""
        result = func(*args, **(kwargs or {}))
        name = func.overloadpacket.__name__
        self.targets[name] = self.targets.get(name, 0) + 1
        if func._schema.is_mutable or not _memory(result) <= _memory((args, kwargs)):
            self.launches += 1
        return result


def _memory(values: Any) -> set[int]:
    leaves = torch.utils._pytree.tree_leaves(values)
    return {leaf.untyped_storage()._cdata for leaf in leaves if isinstance(leaf, Tensor)}


def executed_share(calls: CountCalls, layers: int) -> float:
    """Computed steps, as counted: attentions and MLPs that ran, over those of one full step."""
    ran = calls.targets.get("_scaled_dot_product_flash_attention_for_cpu", 0) + calls.targets.get("gelu", 0)
    return ran / (2 * layers)
