"""Caching methods as data: which class of the algebra, and its fields. What is read is checked by the class itself."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from functools import cache
from typing import Any

from fouriercache import codecs, indicators, predictors, schedules, tokens
from fouriercache.bundle.plain import to_plain
from fouriercache.errors import BundleError, MethodError
from fouriercache.methods import Method
from fouriercache.tokens import scores

_TYPE = "type"


@cache
def _known() -> Mapping[str, type]:
    """Every dataclass of the algebra by its name."""
    rooms = (predictors, schedules, codecs, tokens, scores, indicators)
    listed = {name: getattr(room, name) for room in rooms for name in room.__all__}
    return {"Method": Method} | {
        name: kind for name, kind in listed.items() if isinstance(kind, type) and dataclasses.is_dataclass(kind)
    }


def method_to_plain(method: Method) -> Any:
    """Return a method as JSON values.

    Raises BundleError when a part of it is of a class that is not this package's: it could not be built again.
    """
    return _part_to_plain(method)


def _part_to_plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        name = type(value).__name__
        if _known().get(name) is not type(value):
            raise BundleError(
                f"a bundle says its method in the classes of this package, and {name} is of {type(value).__module__}.\n"
                f"  where: {value!r}\n"
                "  Where it knows its steps beforehand, export with a Table; scalars of your own fit in Calibrated."
            )
        fields = {field.name: _part_to_plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
        return {_TYPE: name, **fields}
    if isinstance(value, tuple):
        return [_part_to_plain(entry) for entry in value]
    return to_plain(value)


def method_from_plain(value: Any) -> Method:
    """Build a method from what `method_to_plain` returned.

    Raises BundleError when a class or field is not known, or a field has a value that makes no sense.
    """
    found = _part_from_plain(value, "method")
    if not isinstance(found, Method):
        raise BundleError(f"the bundle's method is a {type(found).__name__}, and should be a Method.")
    return found


def _part_from_plain(value: Any, where: str) -> Any:
    if isinstance(value, list):
        return tuple(_part_from_plain(entry, f"{where}[{index}]") for index, entry in enumerate(value))
    if not isinstance(value, dict):
        return value
    name = value.get(_TYPE)
    kind = _known().get(name) if isinstance(name, str) else None
    if kind is None:
        raise BundleError(
            f"the bundle's method has a part of the class {name!r}, which this version does not know.\n"
            f"  where: {where}\n"
            "  It was written by another version: use that one, or export again."
        )
    fields = {key: _part_from_plain(entry, f"{where}.{key}") for key, entry in value.items() if key != _TYPE}
    if set(fields) != {field.name for field in dataclasses.fields(kind)}:
        raise BundleError(
            f"the bundle's method has a {name} with the fields {', '.join(sorted(fields)) or 'none'}.\n"
            f"  where: {where}\n"
            f"  This version's has {', '.join(sorted(field.name for field in dataclasses.fields(kind))) or 'none'}.\n"
            "  Use the version that wrote it, or export again."
        )
    try:
        # by position: a class that makes itself may call its arguments otherwise than the fields it keeps
        return kind(*(fields[field.name] for field in dataclasses.fields(kind)))
    except (MethodError, TypeError, ValueError, AttributeError) as error:
        raise BundleError(f"the bundle's method cannot be built: {error}\n  where: {where}") from error
