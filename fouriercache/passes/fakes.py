"""Fake values of calls: what a call gives, by type and sizes alone."""

from __future__ import annotations

import contextlib
import operator
from collections.abc import Hashable
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import SymInt, Tensor, fx
from torch._dispatch.python import enable_python_dispatcher
from torch._guards import detect_fake_mode
from torch._subclasses.fake_tensor import FakeTensor

from fouriercache.errors import PassError
from fouriercache.program import value_of

_aten = torch.ops.aten

_KNOWN: WeakKeyDictionary[fx.Graph, dict[Hashable, Any]] = WeakKeyDictionary()
"""What calls of each form give, for each graph: blocks repeat, and so do their calls.

By graph and not by fake mode: a mode's values hold the mode, which so would never go.
"""

_PLAIN = (bool, int, float, str, torch.dtype, torch.device, torch.layout, torch.memory_format)


class _UnknownFormError(Exception):
    """An argument whose form says too little about it."""


def fake_result(node: fx.Node) -> Any:
    """Compute the fake value of a call from the fake values of its arguments."""
    if node.target is operator.getitem:
        whole, index = node.args
        return value_of(whole)[index]  # type: ignore[arg-type]
    args = fx.map_arg(node.args, value_of)
    kwargs = fx.map_arg(node.kwargs, value_of)
    if not callable(node.target):
        raise PassError(f"node {node.name} has no callable target")
    leaves = torch.utils._pytree.tree_leaves((args, kwargs))
    mode = detect_fake_mode([leaf for leaf in leaves if isinstance(leaf, Tensor)])
    # Decompositions with symbolic sizes need torch's Python dispatcher.
    with mode or contextlib.nullcontext(), enable_python_dispatcher():
        if node.target is _aten.unbind.int:
            return _parts_of(*leaves[:2])
        return node.target(*args, **kwargs)


def known_result(node: fx.Node) -> Any:
    """Return what `fake_result` gives, computed once for all calls of the same form; a fake value is never changed."""
    if node.target is operator.getitem:
        return fake_result(node)  # its argument's form is that of every part of the whole
    try:
        key = (node.target, _form_of(fx.map_arg((node.args, node.kwargs), value_of)))
    except _UnknownFormError:
        return fake_result(node)
    known = _KNOWN.setdefault(node.graph, {})
    if key not in known:
        known[key] = fake_result(node)
    return known[key]


def _form_of(value: Any) -> Hashable:
    """Everything that a call can read of an argument.

    Raises _UnknownFormError for what is no fake tensor, number or plain constant, nor made of such.
    """
    if type(value) is FakeTensor:
        sizes = (*value.shape, *value.stride(), value.storage_offset())
        flags = (value.requires_grad, value.is_conj(), value.is_neg(), value.layout)
        return (value.fake_mode, value.dtype, value.device, value.ndim, *map(_size, sizes), *flags)
    if isinstance(value, (list, tuple)):
        return (type(value), *map(_form_of, value))
    if isinstance(value, dict):
        return (dict, *((name, _form_of(part)) for name, part in value.items()))
    if isinstance(value, SymInt):
        return (SymInt, _size(value))
    if value is None or isinstance(value, _PLAIN):
        return (type(value), value)
    raise _UnknownFormError


def _size(size: int | SymInt) -> Hashable:
    expression: Hashable = size.node.expr if isinstance(size, SymInt) else size
    return expression


def _parts_of(whole: Tensor, dim: int = 0) -> Any:
    """What `unbind` gives, one value for all parts: they are alike but for where they begin.

    To have torch make each, with symbolic sizes, takes as long as to capture a block of a model.
    """
    count: Any = whole.shape[dim]  # torch types a size as a number; here it may be a symbol
    return (whole.select(dim, 0),) * count if isinstance(count, int) and count else _aten.unbind.int(whole, dim)
