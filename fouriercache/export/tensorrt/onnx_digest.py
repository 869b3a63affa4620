"""A hash of an ONNX model with the weights it reads from files beside it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fouriercache.errors import LoweringError
from fouriercache.extras import import_extra

_PIECE = 2**20


def onnx_digest(path: Path) -> str:
    """Return the SHA-256 of a model and of the parts of other files that it reads, in hexadecimal.

    Several models may share one weight file; bytes that this one does not read do not count.

    Raises:
        LoweringError: the model is not ONNX, or its weights are missing or cut short; says where.
        MissingExtraError: onnx is not installed.
    """
    onnx: Any = import_extra("onnx")
    digest = hashlib.sha256()
    data = path.read_bytes()
    digest.update(hashlib.sha256(data).digest())
    model = onnx.ModelProto()
    try:
        model.ParseFromString(data)
    except Exception as error:  # what protobuf raises differs between its versions and implementations
        raise LoweringError(f"{path.name} is not an ONNX model: {error}\n  where: {path}") from error
    for location, offset, length in sorted(set(_outside(onnx, model))):
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


def _outside(onnx: Any, model: Any) -> Iterator[tuple[str, int, int | None]]:
    """Yield (file, offset, bytes) of every tensor that lies outside the model, in any of its graphs."""
    for tensor in _tensors(model.graph):
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            said = {entry.key: entry.value for entry in tensor.external_data}
            yield said["location"], int(said.get("offset", 0)), int(said["length"]) if "length" in said else None


def _tensors(graph: Any) -> Iterator[Any]:
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors
            for inner in (attribute.g, *attribute.graphs):
                yield from _tensors(inner)
