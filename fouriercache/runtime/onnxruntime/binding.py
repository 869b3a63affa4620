"""Where the tensors of a run lie, as ONNX Runtime is told; kept from run to run, so that what stays is told once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from fouriercache.bundle import Graph, dtype_of
from fouriercache.errors import EngineError

_ELEMENTS = {
    torch.float32: 1,
    torch.uint8: 2,
    torch.int8: 3,
    torch.int16: 5,
    torch.int32: 6,
    torch.int64: 7,
    torch.bool: 9,
    torch.float16: 10,
    torch.float64: 11,
    torch.bfloat16: 16,
}
"""ONNX's numbers of element types."""


class Binding:
    """What is bound of one graph for inputs of one set of shapes; for one run at a time.

    It holds addresses and no tensors: they are read in a run alone, and before each run what lies elsewhere than in the
    run before is bound anew. Kept features mostly lie where they lay.

    Args:
        session: ONNX Runtime's. nowhere: where a tensor without entries is said to lie.

    Attributes:
        bound: ONNX Runtime's own binding.
    """

    def __init__(self, session: Any, graph: Graph, device: torch.device, nowhere: Tensor) -> None:
        self.bound = session.io_binding()
        self._graph, self._nowhere = graph, nowhere.data_ptr()
        self._device, self._place = device, (device.type, device.index or 0)
        self._inputs = [(given.name, dtype_of(given.dtype)) for given in graph.inputs]
        self._outputs = [(returned.graph_name, dtype_of(returned.dtype)) for returned in graph.outputs]
        self._taken: list[int | None] = [None] * len(self._inputs)

    def take(self, values: Sequence[Tensor]) -> None:
        """Bind the inputs, contiguous tensors, where they lie.

        Raises EngineError when one has another dtype or device than the graph takes.
        """
        for position, ((name, dtype), value) in enumerate(zip(self._inputs, values, strict=True)):
            if value.dtype is not dtype or value.device != self._device:
                raise EngineError(
                    f"{self._graph.file} takes {name} as {dtype} on {self._device}, and got {value.dtype} on "
                    f"{value.device}.\n  Move or cast it before the call."
                )
            address = value.data_ptr() or self._nowhere
            if address != self._taken[position]:
                self.bound.bind_input(name, *self._place, _ELEMENTS[dtype], list(value.shape), address)
                self._taken[position] = address

    def give(self, shapes: Sequence[tuple[int, ...] | None]) -> list[Tensor | None]:
        """Bind and return new tensors of these shapes for the outputs; for None, ONNX Runtime makes one of its own."""
        made: list[Tensor | None] = []
        for (name, dtype), shape in zip(self._outputs, shapes, strict=True):
            if shape is None:
                self.bound.bind_output(name, *self._place)
                made.append(None)
            else:
                result = torch.empty(shape, dtype=dtype, device=self._device)
                address = result.data_ptr() or self._nowhere
                self.bound.bind_output(name, *self._place, _ELEMENTS[dtype], list(shape), address)
                made.append(result)
        return made
