"""Files of tensors with a strict JSON beside them: one safetensors file, its metadata one JSON text.

Reading trusts nothing: no pickle, and JSON without duplicate keys, NaN or infinity. Writing is whole or not at all.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

_KEY = "fouriercache"
"""The one entry of the safetensors metadata."""


def parse_json(text: str) -> Any:
    """Parse JSON as the standard has it.

    Raises ValueError when it is no JSON, an object has a key twice, or a number is NaN, infinite, or an integer of more
    than 64 bits.
    """

    def refuse_constant(name: str) -> NoReturn:
        raise ValueError(f"{name} is not a number of JSON")

    def parse_float(digits: str) -> float:
        value = float(digits)
        if value in (float("inf"), float("-inf")):
            raise ValueError(f"{digits} is too large for a float")
        return value

    def parse_int(digits: str) -> int:
        value = int(digits)
        if value.bit_length() > 64:
            raise ValueError(f"{digits[:20]}... is too large for an integer")
        return value

    def refuse_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            raise ValueError(f"a key stands twice among {sorted(name for name, _ in pairs)}")
        return found

    try:
        return json.loads(
            text,
            parse_constant=refuse_constant,
            parse_float=parse_float,
            parse_int=parse_int,
            object_pairs_hook=refuse_duplicates,
        )
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def write_tensors(path: Path, about: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
    """Write the tensors, and `about` as JSON, to a file beside `path` and rename it: old or new, never a mixture.

    Raises ValueError when `about` holds what JSON cannot say, OSError when the file cannot be written.
    """
    text = json.dumps(about, allow_nan=False, sort_keys=True)
    new = path.parent / f".{path.name}.{os.getpid()}.{threading.get_ident()}.new"
    try:
        save_file({key: tensor.contiguous().cpu() for key, tensor in tensors.items()}, new, metadata={_KEY: text})
        new.replace(path)
    except SafetensorError as error:
        raise OSError(f"{path} cannot be written: {error}") from error
    finally:
        with suppress(OSError):  # it is not there, or lies where nothing may be seen: the first error says so
            new.unlink()


def read_tensors(path: Path) -> tuple[Any, dict[str, Tensor]]:
    """Return the JSON and the tensors of a file that `write_tensors` wrote.

    Raises ValueError when it is no such file, OSError when it cannot be read.
    """
    with path.open("rb"):
        pass  # a missing or unreadable file raises OSError here, whatever safetensors makes of it
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - the file is no mapping
    except SafetensorError as error:
        raise ValueError(f"it is not a safetensors file: {error}") from error
    if set(metadata) != {_KEY}:
        raise ValueError(f"its metadata has the entries {sorted(metadata)}, not {_KEY!r} alone")
    return parse_json(metadata[_KEY]), tensors
