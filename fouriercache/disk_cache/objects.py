"""What a model is besides the values of its weights, as texts that are the same in every process.

`runtime/structure.py` compares a model with itself at another time, by identity; this compares it with a model of
another process. What is not understood is refused, as a capture must not be used for a model that may be another one.
"""

from __future__ import annotations

import functools
import hashlib
import logging
import re
import sys
import threading
import weakref
from collections import deque
from collections.abc import Callable, Collection
from contextvars import ContextVar
from enum import Enum
from pathlib import PurePath
from types import (
    BuiltinFunctionType,
    ClassMethodDescriptorType,
    FunctionType,
    GenericAlias,
    GetSetDescriptorType,
    MappingProxyType,
    MemberDescriptorType,
    MethodDescriptorType,
    MethodType,
    MethodWrapperType,
    ModuleType,
    SimpleNamespace,
    UnionType,
    WrapperDescriptorType,
)
from typing import Any, TypeVar

import numpy
import torch
from torch import Tensor, nn
from torch._library.custom_ops import CustomOpDef

from fouriercache.disk_cache.code import CodeWalk, is_covered
from fouriercache.disk_cache.reasons import NotKeptError
from fouriercache.fingerprints import bytes_of

_PLAIN = (
    bool, int, float, complex, str, bytes, type(None), type(Ellipsis), type(NotImplemented), range, slice,
    torch.dtype, torch.device, torch.layout, torch.memory_format,
)  # fmt: skip
_OF_NO_MATTER = (
    logging.Logger, logging.LoggerAdapter, type(threading.Lock()), type(threading.RLock()), threading.local,
    UnionType, GenericAlias, TypeVar, type(list[int]),
)  # fmt: skip
"""What decides nothing in a forward pass."""

_BUILTIN = (
    BuiltinFunctionType, ClassMethodDescriptorType, GetSetDescriptorType, MemberDescriptorType, MethodDescriptorType,
    MethodWrapperType, WrapperDescriptorType,
)  # fmt: skip
"""Functions and attributes that are not written in Python."""

_OF_EVERY_MODULE = frozenset(vars(nn.Module()))


class Walk:
    """Says a model, and what else is asked to be said.

    Args:
        modules: names of the modules that imports inside functions may be resolved to.

    Attributes:
        said: the texts so far.
    """

    def __init__(self, model: nn.Module, modules: Collection[str]) -> None:
        self.said: list[str] = []
        self._code = CodeWalk(self.say, self.walk, modules)
        self._known: dict[int, str] = {}
        self._held: list[Any] = []  # or ids might come back
        self._where = ""
        self._add_model(model)

    def say(self, *words: object) -> None:
        """Add words; each is written with its length, so that no two rows of words are alike."""
        self.said += [f"{len(text)}:{text}" for text in map(str, words)]

    def digest(self) -> str:
        """Follow the code that was found, and return the SHA-256 of everything."""
        self._where = "what its code names"
        self._code.add_patches()
        self._code.finish()
        return hashlib.sha256("".join(self.said).encode("utf-8", "surrogatepass")).hexdigest()

    def walk(self, value: Any) -> None:
        """Say a value.

        Raises NotKeptError when it is nothing that another process could be compared with.
        """
        if type(value) in _PLAIN:
            self.say(type(value).__name__, repr(value))
            return
        if type(value) is tuple:
            self._say_parts(value)
            return
        if id(value) in self._known:
            self.say("again", self._known[id(value)])
            return
        self._known[id(value)] = str(len(self._known))
        self._held.append(value)
        for kinds, write in _WRITERS:
            if isinstance(value, kinds):
                write(self, value)
                return
        self._say_object(value)

    def _add_model(self, model: nn.Module) -> None:
        modules = list(model.named_modules(remove_duplicate=False))
        for name, module in modules:
            self._known.setdefault(id(module), f"module {name}")
            for kind in (module._parameters, module._buffers):
                for key, weight in kind.items():
                    if weight is not None:
                        self._known.setdefault(id(weight), f"weight {name}.{key}")
        for name, module in modules:
            self.say("module", name, self._known[id(module)])
            if self._known[id(module)] == f"module {name}":
                self._where = f"{name or 'the model'}, a {type(module).__name__}"
                self._add_module(module)

    def _add_module(self, module: nn.Module) -> None:
        if module._forward_hooks or module._forward_pre_hooks:
            raise NotKeptError(f"{self._where}, has a forward hook")
        self._code.add_class(type(module), is_made=False)
        self.say("training", module.training)
        for kind in (module._parameters, module._buffers):
            for key, weight in kind.items():
                self.say(key)
                if weight is not None:
                    self.say(self._known[id(weight)], key in module._non_persistent_buffers_set)
                    self._say_form(weight)
        for key, value in sorted(vars(module).items()):
            if key not in _OF_EVERY_MODULE:
                self.say("attribute", key)
                self.walk(value)

    def _say_form(self, tensor: Tensor) -> None:
        """Say all of a tensor but its values."""
        if type(tensor) not in (Tensor, nn.Parameter, nn.Buffer):
            raise NotKeptError(f"{self._where}, holds a {type(tensor).__name__}")
        if tensor.layout is not torch.strided:
            raise NotKeptError(f"{self._where}, holds a tensor of the layout {tensor.layout}")
        self.say(tuple(tensor.shape), tensor.stride(), tensor.dtype, tensor.device, tensor.is_conj(), tensor.is_neg())

    def _say_tensor(self, tensor: Tensor) -> None:
        self._say_form(tensor)
        if not tensor.is_meta:
            self._say_bytes(bytes_of(tensor))

    def _say_bytes(self, values: bytes) -> None:
        self.say(hashlib.sha256(values).hexdigest())

    def _say_array(self, array: Any) -> None:
        if array.dtype.hasobject:
            raise NotKeptError(f"{self._where}, holds an array of objects")
        self.say("array", array.dtype, array.shape)
        self._say_bytes(numpy.ascontiguousarray(array).tobytes())

    def _say_parts(self, parts: Any) -> None:
        self.say(type(parts).__name__, len(parts))
        for part in parts:
            self.walk(part)

    def _say_list(self, parts: Any) -> None:
        self._say_class(type(parts))
        self._say_parts(parts)

    def _say_dict(self, found: Any) -> None:
        self._say_class(type(found))
        state = getattr(found, "__dict__", {})
        if any(base.__module__ == "diffusers.configuration_utils" for base in type(found).__mro__):
            # diffusers notes in a configuration how it was made, in the order of a set
            found, state = ({k: v for k, v in part.items() if not str(k).startswith("_")} for part in (found, state))
        self.say(len(found))
        for key, value in found.items():
            self.walk(key)
            self.walk(value)
        self.walk(getattr(found, "default_factory", None))
        self._say_state(state)

    def _say_set(self, found: Any) -> None:
        """Say a set in the order of its members' names: its own differs from process to process."""
        self.say(type(found).__name__, len(found))
        for _, part in sorted(((self._name_of(part), part) for part in found), key=lambda pair: pair[0]):
            self.walk(part)

    def _name_of(self, part: Any) -> str:
        if type(part) in _PLAIN:
            return f"{type(part).__name__} {part!r}"
        if isinstance(part, Enum | type | FunctionType):
            kind = type(part) if isinstance(part, Enum) else part
            return f"{kind.__module__}.{kind.__qualname__} {part.name if isinstance(part, Enum) else ''}"
        raise NotKeptError(f"{self._where}, holds a set of {type(part).__name__}")

    def _say_class(self, found: type) -> None:
        self._code.add_class(found, is_made=True)

    def _say_enum(self, found: Enum) -> None:
        self._say_class(type(found))
        self.say(found.name)

    def _say_method(self, found: MethodType) -> None:
        self.walk(found.__func__)
        self.walk(found.__self__)

    def _say_partial(self, found: Any) -> None:
        for part in (found.func, found.args, found.keywords):
            self.walk(part)

    def _say_builtin(self, found: Any) -> None:
        """Say a function without Python code, and the version of the package it came with."""
        module = str(getattr(found, "__module__", None) or getattr(found, "__objclass__", type(found)).__module__)
        self.say("builtin", module, getattr(found, "__qualname__", type(found).__name__))
        owner = getattr(found, "__self__", None)
        if owner is not None and not isinstance(owner, ModuleType | type):
            self.walk(owner)
        if not is_covered(module):
            package = sys.modules.get(module.partition(".")[0])
            self.say(getattr(package, "__version__", None))

    def _say_object(self, value: Any) -> None:
        kind = type(value)
        self._say_class(kind)
        for plain in (str, bytes, int, float, complex):
            if isinstance(value, plain):
                self.say(plain.__name__, plain.__repr__(value))
        slots = [name for base in kind.__mro__ for name in _slots_of(base)]
        # What else is not written in Python may hold what no attribute shows.
        hidden = [base for base in kind.__mro__ if not base.__flags__ & _OF_PYTHON and base not in _SHOWN]
        if hidden or not (hasattr(value, "__dict__") or slots):
            raise NotKeptError(f"{self._where}, holds a {kind.__module__}.{kind.__qualname__}")
        self._say_state(getattr(value, "__dict__", {}))
        self._say_state({name: getattr(value, name) for name in slots if hasattr(value, name)})

    def _say_state(self, state: dict[str, Any]) -> None:
        for key, value in sorted(state.items(), key=lambda item: str(item[0])):
            self.say("attribute", key)
            self.walk(value)


_OF_PYTHON = 1 << 9
"""The flag of a class that was made at run time, Py_TPFLAGS_HEAPTYPE."""

_SHOWN = (object, str, bytes, int, float, complex, bool)


def _slots_of(kind: type) -> list[str]:
    """Return the names of a class's slots as attributes, private ones as Python spells them."""
    found = vars(kind).get("__slots__", ())
    names = [name for name in ([found] if isinstance(found, str) else found) if name not in ("__dict__", "__weakref__")]
    owner = kind.__name__.lstrip("_")
    return [f"_{owner}{name}" if name.startswith("__") and not name.endswith("__") else name for name in names]


_WRITERS: tuple[tuple[Any, Callable[[Walk, Any], None]], ...] = (
    (Tensor, Walk._say_tensor),
    (Enum, Walk._say_enum),
    (FunctionType, lambda walk, value: walk._code.add_function(value)),
    (type, Walk._say_class),
    (ModuleType, lambda walk, value: walk.say("module", value.__name__)),
    (MethodType, Walk._say_method),
    (functools.partial, Walk._say_partial),
    (functools._lru_cache_wrapper, lambda walk, value: walk.walk(value.__wrapped__)),
    (torch._ops.OpOverload | torch._ops.OpOverloadPacket | torch._ops.HigherOrderOperator, lambda w, v: w.say(str(v))),
    (CustomOpDef, lambda walk, value: walk.walk((value._qualname, value._init_fn))),
    (
        (*_BUILTIN, numpy.ufunc),
        Walk._say_builtin,
    ),
    (dict | MappingProxyType, Walk._say_dict),
    (list | tuple | deque, Walk._say_list),
    (set | frozenset, Walk._say_set),
    (numpy.ndarray | numpy.generic, lambda walk, value: walk._say_array(numpy.asarray(value))),
    (re.Pattern, lambda walk, value: walk.say("pattern", value.pattern, value.flags)),
    (PurePath, lambda walk, value: walk.say("path", str(value))),
    (numpy.dtype, lambda walk, value: walk.say("dtype", str(value))),
    (weakref.ReferenceType, lambda walk, value: walk.walk(value())),
    (staticmethod | classmethod, lambda walk, value: walk.walk(value.__func__)),
    (property, lambda walk, value: walk.walk((value.fget, value.fset))),
    (ContextVar, lambda walk, value: walk.walk(value.get(None))),
    (torch.finfo | torch.iinfo, lambda walk, value: walk.say(str(value))),
    (SimpleNamespace, lambda walk, value: walk._say_state(vars(value))),
    (_OF_NO_MATTER, lambda walk, value: walk.say("of no matter", type(value).__name__)),
)
"""How values of each kind are said; the first kind that fits."""
