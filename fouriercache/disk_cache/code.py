"""What code a model's forward pass may run, found by reading it: functions, what they name, classes, their methods.

Each function is said by its byte code, constants and lines, and what it names among its module's globals is followed:
other functions, classes, switches such as diffusers' active attention backend. Of a class every method is said, and
those are followed whose names some followed code says, as attribute or as text: a model's `from_pretrained` is not
reached from its `forward`.

The code of torch, NumPy and Python is said by its place alone, as their versions say the rest: a function put in the
place of one of theirs has another place.
"""

from __future__ import annotations

import dis
import functools
import sys
from collections.abc import Callable, Collection, Iterator, Mapping
from enum import EnumMeta
from types import BuiltinFunctionType, CellType, CodeType, FunctionType, MethodType, ModuleType
from typing import Any

import torch
from torch import Tensor

_COVERED = frozenset(
    {"torch", "torchgen", "functorch", "numpy", "sympy", "triton", "typing_extensions", "builtins"}
) | frozenset(sys.stdlib_module_names)
"""Packages whose versions, or Python's, stand in each key."""

_OF_NO_MATTER = frozenset(
    (
        "__doc__", "__module__", "__qualname__", "__dict__", "__weakref__", "__hash__", "__annotations__",
        "__annotate__", "__annotations_cache__", "__parameters__", "__orig_bases__", "__abstractmethods__",
        "_abc_impl", "__dataclass_fields__", "__dataclass_params__", "__match_args__", "__static_attributes__",
        "__firstlineno__",
    )
)  # fmt: skip
"""Class attributes that no forward pass depends on, or that follow from others."""

_WHEN_MADE = frozenset(("__init__", "__new__", "__post_init__", "__init_subclass__", "__set_name__"))
_NEVER_RUN = frozenset(
    (
        "__reduce__", "__reduce_ex__", "__getstate__", "__setstate__", "__del__", "__repr__", "__str__", "__copy__",
        "__deepcopy__", "__dir__",
    )
)  # fmt: skip


def is_covered(module: str | None) -> bool:
    """Whether a version stands for the code of a module."""
    return (module or "builtins").partition(".")[0] in _COVERED


class CodeWalk:
    """Follows code from one function or class to the next.

    Args:
        say: takes what is found, as texts in an order that is the same in every process.
        walk: takes values that code names.
        modules: names of the modules that imports inside functions may be resolved to. To run a model may import more.
    """

    def __init__(self, say: Callable[..., None], walk: Callable[[Any], None], modules: Collection[str]) -> None:
        self._say, self._walk, self._modules = say, walk, modules
        self._waiting: list[FunctionType] = []
        self._followed: set[int] = set()
        self._names = {"forward"}
        self._methods: dict[type, dict[str, list[FunctionType]]] = {}
        self._made: set[type] = set()
        self._looked_up: set[tuple[int, str]] = set()

    def add_function(self, function: FunctionType) -> None:
        """Say a function, and follow it before `finish` returns."""
        origin = str(function.__globals__.get("__name__"))
        self._say("function", origin, function.__qualname__, function.__code__.co_filename)
        if is_covered(origin):
            self._walk_closure(function)  # a decorator of torch's holds what it decorates
        elif id(function) not in self._followed:
            self._followed.add(id(function))
            self._waiting.append(function)

    def add_class(self, found: type, *, is_made: bool) -> None:
        """Say a class, its bases and its attributes.

        Args:
            is_made: whether code may make instances of it.
        """
        self._say("class", found.__module__, found.__qualname__)
        if is_made:
            self._made |= set(found.__mro__)
        if found in self._methods:
            return
        self._methods[found] = {}
        if not is_covered(type(found).__module__):
            self.add_class(type(found), is_made=False)
        for base in found.__mro__[1:]:
            self.add_class(base, is_made=False)
        attributes = {name: value for name, value in vars(found).items() if name not in _OF_NO_MATTER}
        if is_covered(found.__module__):
            self._add_guests(found, attributes)
            return
        self._methods[found] = {name: parts for name, v in attributes.items() if (parts := list(_functions_in(v)))}
        for name, parts in sorted(self._methods[found].items()):
            self._say("method", name)
            for part in parts:
                self._say_code(part.__code__)
        if isinstance(found, EnumMeta):
            members: Mapping[str, Any] = found.__members__
            self._say(*(f"{name}={member.value!r}" for name, member in members.items()))
            return
        for name, value in sorted(attributes.items()):
            if name not in self._methods[found]:
                self._say("attribute", name)
                self._walk(value)

    def _add_guests(self, found: type, attributes: Mapping[str, Any]) -> None:
        """Say what others have put into a class of torch's.

        What the class's own code calls, or a base class has, stands in the place of something, and is followed. The
        rest runs only where other code names it: transformers adds a method to all modules with which it draws weights.
        """
        guests = {name: f for name, f in attributes.items() if isinstance(f, FunctionType) and _origin(f) is not None}
        if not guests:
            return
        hosts = (f for base in found.__mro__ for f in vars(base).values() if isinstance(f, FunctionType))
        called = {name for host in hosts if _origin(host) is None for name in _names_in(host.__code__)}
        for name, value in sorted(guests.items()):
            if name in called or any(name in vars(base) for base in found.__mro__[1:]):
                self._say("instead of", name)
                self.add_function(value)
            else:
                self._methods[found][name] = [value]

    def add_patches(self) -> None:
        """Say what others have put into the places that most of torch's own code calls, too."""
        for holder in (torch, torch.nn.functional, Tensor):
            for name, value in sorted(vars(holder).items()):
                if _origin(value) is not None:
                    self._say("put into", holder.__name__, name)
                    self._walk(value)

    def finish(self) -> None:
        """Follow all that waits, until nothing new is found."""
        while True:
            while self._waiting:
                self._follow(self._waiting.pop())
            for found, methods in list(self._methods.items()):
                for name in sorted(filter(lambda name: self._may_run(found, name), methods)):
                    for part in methods[name]:
                        if id(part) not in self._followed:
                            self.add_function(part)
            if not self._waiting:
                return

    def _may_run(self, found: type, name: str) -> bool:
        if name in _WHEN_MADE:
            return found in self._made
        return name in self._names or (name.startswith("__") and name.endswith("__") and name not in _NEVER_RUN)

    def _follow(self, function: FunctionType) -> None:
        self._say("code of", function.__qualname__)
        self._say_code(function.__code__)
        self._walk(function.__defaults__)
        self._walk(function.__kwdefaults__)
        self._walk_closure(function)
        names = sorted(set(_names_in(function.__code__)))
        self._names |= set(names)
        self._names |= {text for text in _texts_in(function.__code__) if text.isidentifier()}
        for name in names:
            if name in function.__globals__:
                self._say("global", name)
                self._add_named(function.__globals__[name], names)
        for name in sorted(set(_imports_in(function.__code__))):
            for module in self._imported(name, str(function.__globals__.get("__package__") or "")):
                self._say("import", module.__name__)
                self._add_named(module, names)

    def _walk_closure(self, function: FunctionType) -> None:
        for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
            self._say("cell", name)
            self._walk(_content(cell))
        for name, value in sorted(vars(function).items()):
            if not name.startswith("_torch"):  # torch marks functions as it traces them
                self._say("attribute", name)
                self._walk(value)

    def _add_named(self, value: Any, names: list[str]) -> None:
        """Follow what a name stands for; of a module, what the same code may name of it.

        Of torch, NumPy and Python only what was put there by others is said: which of their modules are loaded is not
        the same in every process.
        """
        if not isinstance(value, ModuleType):
            self._walk(value)
            return
        is_own = is_covered(value.__name__)
        for name in names:
            if name in vars(value) and (id(value), name) not in self._looked_up:
                self._looked_up.add((id(value), name))
                found = vars(value)[name]
                if not is_own or _origin(found) is not None:
                    self._say("of module", value.__name__, name)
                    self._walk(found)
                if isinstance(found, ModuleType):
                    self._add_named(found, names)

    def _imported(self, name: str, package: str) -> Iterator[ModuleType]:
        """Yield the modules that an import inside a function may mean by a name, if they are there."""
        parts = package.split(".") if package else []
        for length in range(len(parts) + 1):
            full = ".".join([*parts[:length], name]).rstrip(".")
            module = sys.modules.get(full) if full in self._modules else None
            if isinstance(module, ModuleType):
                yield module

    def _say_code(self, code: CodeType) -> None:
        self._say(code.co_qualname, code.co_filename, code.co_firstlineno, code.co_flags, code.co_argcount)
        self._say(code.co_posonlyargcount, code.co_kwonlyargcount, code.co_names, code.co_varnames)
        self._say(code.co_freevars, code.co_cellvars, code.co_code.hex(), code.co_linetable.hex())
        self._say(code.co_exceptiontable.hex())
        for constant in code.co_consts:
            if isinstance(constant, CodeType):
                self._say_code(constant)
            else:
                # the order of a frozenset is not the same in every process
                self._say(sorted(map(repr, constant)) if isinstance(constant, frozenset) else repr(constant))


def _content(cell: CellType) -> Any:
    """What a closure holds in a cell; Ellipsis where nothing is set yet."""
    try:
        return cell.cell_contents
    except ValueError:
        return ...


def _functions_in(value: Any) -> Iterator[FunctionType]:
    """Yield the functions that a class attribute is made of: itself, or those of a property or class method."""
    if isinstance(value, FunctionType):
        yield value
    elif isinstance(value, staticmethod | classmethod):
        yield from _functions_in(value.__func__)
    elif isinstance(value, property):
        yield from (part for part in (value.fget, value.fset) if isinstance(part, FunctionType))
    elif isinstance(value, functools.cached_property | functools.singledispatchmethod):
        yield from _functions_in(value.func)


def _names_in(code: CodeType) -> Iterator[str]:
    """Yield the names of globals and attributes that code says."""
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names_in(constant)


def _texts_in(code: CodeType) -> Iterator[str]:
    """Yield the texts that code holds, one of which may name an attribute."""
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _texts_in(constant)
        elif isinstance(constant, tuple):
            yield from (part for part in constant if isinstance(part, str))
        elif isinstance(constant, str):
            yield constant


def _imports_in(code: CodeType) -> Iterator[str]:
    """Yield the names of the modules that code imports."""
    if dis.opmap["IMPORT_NAME"] in code.co_code[::2]:  # few functions import, and to take code apart is slow
        yield from (str(step.argval) for step in dis.get_instructions(code) if step.opname == "IMPORT_NAME")
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _imports_in(constant)


def _origin(found: Any) -> str | None:
    """The module that a function comes from, if that is not torch's, NumPy's or Python's own."""
    origin = None
    if isinstance(found, FunctionType):
        origin = str(found.__globals__.get("__name__"))
    elif isinstance(found, BuiltinFunctionType | type):
        origin = found.__module__
    elif isinstance(found, MethodType | functools.partial):
        origin = _origin(found.__func__ if isinstance(found, MethodType) else found.func)
    return None if origin is None or is_covered(origin) else origin
