"""Protocol buffers' text format, as far as Triton's model configurations need it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias


@dataclass(frozen=True)
class Enum:
    """A member of an enumeration: a word without quotes."""

    name: str


Value: TypeAlias = "bool | int | float | str | Enum | Mapping[str, Value] | Sequence[Value]"
"""A field: a scalar, a message by field name, or a repeated field."""


def as_pbtxt(message: Mapping[str, Value]) -> str:
    """Return a message as text, a field a line, in the order of the mapping."""
    return "".join(f"{line}\n" for line in _fields(message))


def _fields(message: Mapping[str, Value]) -> list[str]:
    return [line for name, value in message.items() for line in _field(name, value)]


def _field(name: str, value: Value) -> list[str]:
    if isinstance(value, Mapping):
        return [f"{name} {{", *(f"  {line}" for line in _fields(value)), "}"]
    if isinstance(value, Sequence) and not isinstance(value, str):
        if all(isinstance(item, Mapping) for item in value):
            return [line for item in value for line in _field(name, item)]
        return [f"{name}: [{', '.join(_scalar(item) for item in value)}]"]
    return [f"{name}: {_scalar(value)}"]


def _scalar(value: Value) -> str:
    if isinstance(value, Enum):
        return value.name
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return '"' + "".join(_escaped(byte) for byte in value.encode()) + '"'
    return str(value)


def _escaped(byte: int) -> str:
    """A byte of a string: printable ASCII as it is, but for quotes and backslashes; anything else in octal."""
    return chr(byte) if 32 <= byte < 127 and byte not in b'"\\' else f"\\{byte:03o}"
