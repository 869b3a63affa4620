"""ONNX files: parsed or refused, and where the weights lie that a file does not hold itself."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fouriercache.extras import import_extra

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto, TensorProto


@dataclass(frozen=True)
class Place:
    """Where the bytes of a tensor lie: in which file beside the model's, from where on, and how many.

    Attributes:
        length: None for all there are from `offset` on. tensor: its name.
    """

    location: str
    offset: int
    length: int | None
    tensor: str


def parse_onnx(content: bytes) -> ModelProto:
    """Return the model that a file holds; weights that lie elsewhere are not read.

    Raises:
        ValueError: it is no ONNX.
        MissingExtraError: onnx is not installed.
    """
    onnx: Any = import_extra("onnx")
    try:
        model: ModelProto = onnx.ModelProto.FromString(content)
    except Exception as error:  # protobuf's own DecodeError differs between its versions and implementations
        raise ValueError(f"it is no ONNX: {error}") from error
    if not model.HasField("graph"):
        raise ValueError("it is no ONNX: there is no graph in it")
    return model


def graphs_of(model: ModelProto) -> Iterator[GraphProto]:
    """Yield the main graph, and those inside of it: the branches of an `If`."""
    pending = [model.graph]
    while pending:
        graph = pending.pop()
        yield graph
        for node in graph.node:
            for attribute in node.attribute:
                pending += [*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs]


def outside_places(model: ModelProto) -> list[Place]:
    """Return the places of all tensors that lie outside the model's file, in whichever of its graphs.

    Raises ValueError when one is said in a form that makes no sense.
    """
    tensors = [tensor for graph in graphs_of(model) for tensor in _tensors(graph)]
    return [_place(tensor) for tensor in tensors if tensor.external_data or tensor.data_location == tensor.EXTERNAL]


def _place(tensor: TensorProto) -> Place:
    said = {entry.key: entry.value for entry in tensor.external_data}
    numbers = [said[key] for key in ("offset", "length") if key in said]
    if not said.get("location") or not all(number.isdecimal() for number in numbers):
        raise ValueError(f"the place of its tensor {tensor.name!r} makes no sense: {said}")
    length = int(said["length"]) if "length" in said else None
    return Place(said["location"], int(said.get("offset", "0")), length, tensor.name)


def _tensors(graph: GraphProto) -> Iterator[TensorProto]:
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    for node in graph.node:
        for attribute in node.attribute:
            yield from (attribute.t, *attribute.tensors)
            for sparse in (attribute.sparse_tensor, *attribute.sparse_tensors):
                yield from (sparse.values, sparse.indices)
