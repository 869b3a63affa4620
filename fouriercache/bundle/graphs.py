"""What a graph's file may hold: plain ONNX, its weights in the bundle's own file and nowhere else."""

from __future__ import annotations

import hashlib
from pathlib import Path

from fouriercache.bundle.manifest import WEIGHTS, Graph, Manifest
from fouriercache.errors import BundleError
from fouriercache.onnx_files import Place, outside_places, parse_onnx

_DOMAINS = ("", "ai.onnx")


def read_graph(folder: Path, manifest: Manifest, graph: Graph) -> bytes:
    """Return the content of a graph's file, once it is known that it reads nothing but the bundle's weights.

    Raises BundleError when it is not the file that the manifest records, no ONNX, has operators that are not ONNX's
    own, or refers to another file; MissingExtraError when onnx is not installed.
    """
    try:
        content = (folder / graph.file).read_bytes()
    except OSError as error:
        raise BundleError(f"{graph.file} cannot be read: {error}.\n  where: {folder}") from error
    if hashlib.sha256(content).hexdigest() != manifest.files[graph.file].sha256:
        raise BundleError(f"{graph.file} was changed while the bundle was loaded.\n  where: {folder}")
    try:
        model = parse_onnx(content)
        places = outside_places(model)
    except ValueError as error:
        raise BundleError(f"{graph.file} cannot be taken: {error}.\n  where: {folder}") from error
    if model.functions or any(used.domain not in _DOMAINS for used in model.opset_import):
        raise BundleError(f"{graph.file} has operators that are not ONNX's own.\n  where: {folder}")
    length = manifest.files[WEIGHTS].bytes if WEIGHTS in manifest.files else 0
    for place in places:
        _check_place(graph.file, place, length)
    return content


def _check_place(file: str, place: Place, length: int) -> None:
    if place.location != WEIGHTS:
        raise BundleError(
            f"{file} reads a weight from {place.location!r}; a bundle's weights all lie in {WEIGHTS}.\n"
            f"  where: {place.tensor}"
        )
    if place.offset + (place.length or 0) > length:
        raise BundleError(f"{file} reads a weight behind the end of {WEIGHTS}.\n  where: {place.tensor}")
