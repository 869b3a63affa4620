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
        session: ONNX Runtime's. shapes: of the inputs. results: shapes of the outputs; None for one that ONNX Runtime
            has to make itself.

    Attributes:
        bound: ONNX Runtime's own binding.
    """

    def __init__(
        self,
        session: Any,
        graph: Graph,
        device: torch.device,
        shapes: Sequence[tuple[int, ...]],
        results: Sequence[tuple[int, ...] | None],
    ) -> None:
        self.bound = session.io_binding()
        self._file, self._device = graph.file, device
        self._place = device.type, device.index or 0
        self._nowhere = torch.zeros(16, dtype=torch.uint8, device=device)  # where what has no entries is said to lie
        self._inputs = [
            (given.name, *self._form(dtype_of(given.dtype), shape))
            for given, shape in zip(graph.inputs, shapes, strict=True)
        ]
        self._outputs = [
            (returned.graph_name, shape, *self._form(dtype_of(returned.dtype), shape or ()))
            for returned, shape in zip(graph.outputs, results, strict=True)
        ]
        self._taken: list[int | None] = [None] * len(self._inputs)

    def _form(self, dtype: torch.dtype, shape: tuple[int, ...]) -> tuple[torch.dtype, tuple[Any, ...]]:
        return dtype, (*self._place, _ELEMENTS[dtype], list(shape))

    def take(self, values: Sequence[Tensor]) -> None:
        """Bind the inputs, contiguous tensors, where they lie.

        Raises EngineError when one has another dtype or device than the graph takes.
        """
        device, taken, bind = self._device, self._taken, self.bound.bind_input
        for position, ((name, dtype, form), value) in enumerate(zip(self._inputs, values, strict=True)):
            if value.dtype is not dtype or value.device != device:
                raise EngineError(
                    f"{self._file} takes {name} as {dtype} on {device}, and got {value.dtype} on {value.device}.\n"
                    "  Move or cast it before the call."
                )
            address = value.data_ptr() or self._nowhere.data_ptr()
            if address != taken[position]:
                bind(name, *form, address)
                taken[position] = address

    def give(self) -> list[Tensor | None]:
        """Bind and return new tensors for the outputs; None for one that ONNX Runtime has to make itself."""
        device, bind = self._device, self.bound.bind_output
        made: list[Tensor | None] = []
        for name, shape, dtype, form in self._outputs:
            if shape is None:
                bind(name, *self._place)
                made.append(None)
            else:
                result = torch.empty(shape, dtype=dtype, device=device)
                bind(name, *form, result.data_ptr() or self._nowhere.data_ptr())
                made.append(result)
        return made
