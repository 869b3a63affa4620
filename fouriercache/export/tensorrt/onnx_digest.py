"""A hash of an ONNX model with the weights it reads from files beside it."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from fouriercache.errors import LoweringError
from fouriercache.onnx_files import outside_places, parse_onnx

_PIECE = 2**20


def onnx_digest(path: Path) -> str:
    """Return the SHA-256 of a model and of the parts of other files that it reads, in hexadecimal.

    Several models may share one weight file; bytes that this one does not read do not count.

    Raises:
        LoweringError: the model is not ONNX, or its weights are missing or cut short; says where.
        MissingExtraError: onnx is not installed.
    """
    digest = hashlib.sha256()
    data = path.read_bytes()
    digest.update(hashlib.sha256(data).digest())
    try:
        places = outside_places(parse_onnx(data))
    except ValueError as error:
        raise LoweringError(f"{path.name} cannot be taken: {error}.\n  where: {path}") from error
    for location, offset, length in sorted({(place.location, place.offset, place.length) for place in places}, key=str):
        digest.update(f"{location} {offset} {length}\n".encode())
        file = path.parent / location
        if not file.is_file():
            raise LoweringError(f"{path.name} reads weights from {location}, which is not there.\n  where: {file}")
        _add(digest, file, offset, length)
    return digest.hexdigest()


def _add(digest: Any, path: Path, offset: int, length: int | None) -> None:
    left = path.stat().st_size - offset if length is None else length
    with path.open("rb") as file:
        file.seek(offset)
        while left > 0:
            piece = file.read(min(left, _PIECE))
            if not piece:
                raise LoweringError(f"a weight file is cut short: {left:,} bytes are missing.\n  where: {path}")
            digest.update(piece)
            left -= len(piece)
