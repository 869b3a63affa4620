"""What a graph's file may hold: plain ONNX, its weights in the bundle's own file and nowhere else."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from fouriercache.bundle.manifest import WEIGHTS, Graph, Manifest
from fouriercache.errors import BundleError
from fouriercache.extras import import_extra

if TYPE_CHECKING:
    from onnx import GraphProto, TensorProto

_DOMAINS = ("", "ai.onnx")


def read_graph(folder: Path, manifest: Manifest, graph: Graph) -> bytes:
    """Return the content of a graph's file, once it is known that it reads nothing but the bundle's weights.

    Raises BundleError when it is not the file that the manifest records, no ONNX, has operators that are not ONNX's
    own, or refers to another file; MissingExtraError when onnx is not installed.
    """
    onnx = import_extra("onnx")
    try:
        content = (folder / graph.file).read_bytes()
    except OSError as error:
        raise BundleError(f"{graph.file} cannot be read: {error}.\n  where: {folder}") from error
    if hashlib.sha256(content).hexdigest() != manifest.files[graph.file].sha256:
        raise BundleError(f"{graph.file} was changed while the bundle was loaded.\n  where: {folder}")
    try:
        model = onnx.ModelProto.FromString(content)
    except Exception as error:  # protobuf's own DecodeError differs between its implementations
        raise BundleError(f"{graph.file} is no ONNX file: {error}.\n  where: {folder}") from error
    if model.functions or any(used.domain not in _DOMAINS for used in model.opset_import):
        raise BundleError(f"{graph.file} has operators that are not ONNX's own.\n  where: {folder}")
    length = manifest.files[WEIGHTS].bytes if WEIGHTS in manifest.files else 0
    for tensor in _tensors(model.graph):
        _check_place(graph.file, tensor, length)
    return content


def _tensors(graph: GraphProto) -> Iterator[TensorProto]:
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    for node in graph.node:
        for attribute in node.attribute:
            yield from (attribute.t, *attribute.tensors)
            for inner in (attribute.g, *attribute.graphs):
                yield from _tensors(inner)


def _check_place(file: str, tensor: TensorProto, length: int) -> None:
    entries = {entry.key: entry.value for entry in tensor.external_data}
    if not entries and tensor.data_location != tensor.EXTERNAL:
        return
    numbers = [entries.get(name, "0") for name in ("offset", "length")]
    if entries.get("location") != WEIGHTS or not all(number.isdecimal() for number in numbers):
        raise BundleError(
            f"{file} reads a weight from {entries.get('location')!r}; a bundle's weights all lie in {WEIGHTS}.\n"
            f"  where: {tensor.name}"
        )
    if sum(map(int, numbers)) > length:
        raise BundleError(f"{file} reads a weight behind the end of {WEIGHTS}.\n  where: {tensor.name}")
