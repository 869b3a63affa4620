"""Dataclasses as JSON values and back, every field checked against its type. No pickle, no import by name."""

from __future__ import annotations

import dataclasses
import types
from collections.abc import Mapping
from functools import cache
from math import isfinite
from typing import Any, Literal, Union, cast, get_args, get_origin, get_type_hints

from fouriercache.errors import BundleError

_PLAIN = (str, int, float, bool, type(None))


def to_plain(value: Any) -> Any:
    """Return what JSON can say: dataclasses become objects, tuples lists.

    Raises BundleError when something in it is none of these, or a number is not finite.
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: to_plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): to_plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [to_plain(entry) for entry in value]
    if type(value) in _PLAIN and (type(value) is not float or isfinite(value)):
        return value
    raise BundleError(f"a bundle holds plain data, and {value!r} of type {type(value).__name__} is none.")


def from_plain(kind: Any, value: Any, where: str) -> Any:
    """Return the value as `kind`: a dataclass, or what its fields may have: str, int, float, bool, None, unions,
    literals, tuples, and mappings of them with names for keys.

    Raises BundleError when the value is not of that form; says at which place below `where`.
    """
    return _read(kind, value, where)


def _read(kind: Any, value: Any, where: str) -> Any:
    origin = get_origin(kind)
    if kind is Any:
        return value
    if origin in (Union, types.UnionType):
        return _read_union(get_args(kind), value, where)
    if origin is Literal:
        if value not in get_args(kind) or isinstance(value, bool):
            raise _unfit(f"one of {', '.join(map(repr, get_args(kind)))}", value, where)
        return value
    if origin is tuple:
        return _read_tuple(get_args(kind), value, where)
    if origin in (Mapping, dict) or kind in (Mapping, dict):
        if not isinstance(value, dict):
            raise _unfit("an object", value, where)
        inner = get_args(kind)[1] if get_args(kind) else Any
        return {key: _read(inner, entry, f"{where}.{key}") for key, entry in value.items()}
    if dataclasses.is_dataclass(kind):
        return _read_dataclass(cast(type, kind), value, where)
    if kind is float and type(value) is int:
        return value  # Python writes 3.0 as 3.0, so an int here was an int
    if kind not in _PLAIN or type(value) is not kind:
        raise _unfit(kind.__name__, value, where)
    return value


def _read_union(kinds: tuple[Any, ...], value: Any, where: str) -> Any:
    if value is None and type(None) in kinds:
        return None
    faults = []
    for kind in kinds:
        if kind is type(None):
            continue
        try:
            return _read(kind, value, where)
        except BundleError as error:
            faults.append(error)
    raise faults[-1]


def _read_tuple(kinds: tuple[Any, ...], value: Any, where: str) -> tuple[Any, ...]:
    if not isinstance(value, list):
        raise _unfit("a list", value, where)
    if len(kinds) == 2 and kinds[1] is Ellipsis:
        kinds = (kinds[0],) * len(value)
    if len(kinds) != len(value):
        raise _unfit(f"a list of {len(kinds)}", value, where)
    return tuple(_read(kind, entry, f"{where}[{i}]") for i, (kind, entry) in enumerate(zip(kinds, value, strict=True)))


def _read_dataclass(kind: type, value: Any, where: str) -> Any:
    if not isinstance(value, dict):
        raise _unfit("an object", value, where)
    hints = _hints(kind)
    names = {field.name for field in dataclasses.fields(kind)}
    if set(value) != names:
        missing, unknown = sorted(names - set(value)), sorted(set(value) - names)
        raise BundleError(
            f"the bundle's manifest is not as it should be: {where} lacks {', '.join(missing) or 'nothing'}, and has "
            f"{', '.join(unknown) or 'nothing'} that is not known."
        )
    return kind(**{name: _read(hints[name], value[name], f"{where}.{name}") for name in value})


@cache
def _hints(kind: type) -> dict[str, Any]:
    return get_type_hints(kind)


def _unfit(wanted: str, value: Any, where: str) -> BundleError:
    shown = repr(value) if len(repr(value)) < 60 else f"a {type(value).__name__}"
    return BundleError(f"the bundle's manifest is not as it should be: {where} should be {wanted}, and is {shown}.")
