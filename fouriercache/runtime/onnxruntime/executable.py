"""A graph in ONNX Runtime as an executable: tensors in, tensors out, bound by address, nothing of them copied."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import torch
from torch import Tensor

from fouriercache.bundle import Graph, dtype_of, is_evaluable, shape_of
from fouriercache.errors import EngineError
from fouriercache.program import Input, Output

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

_Shapes: TypeAlias = tuple[torch.Size, ...]

_MOST_KNOWN = 64
"""Sets of input shapes for which those of the results are kept."""


class GraphExecutable:
    """A graph that is called like a program on any other backend.

    A kept feature is bound where it lies, and what is to be kept is written to memory that torch has just given out, so
    a ring of features is never copied. Several threads may call it at a time.

    Attributes:
        graph: what the manifest says of it.
    """

    def __init__(self, graph: Graph, session: Any, device: torch.device) -> None:
        self.graph = graph
        self.inputs = tuple(Input(given.name, given.role) for given in graph.inputs)
        self.outputs = tuple(returned.name for returned in graph.outputs)
        self._session, self._device = session, device
        self._dtypes = [dtype_of(given.dtype) for given in graph.inputs]
        self._results = [(returned, dtype_of(returned.dtype)) for returned in graph.outputs]
        self._nowhere = torch.zeros(
            16, dtype=torch.uint8, device=device
        )  # where a tensor without entries is said to be
        self._known: dict[_Shapes, tuple[tuple[int, ...] | None, ...]] = {}

    @property
    def returned(self) -> tuple[Output, ...]:
        """What it gives, with roles."""
        return tuple(Output(returned.name, returned.role) for returned in self.graph.outputs)

    def __call__(self, values: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Run on one tensor for each of `inputs`, in their order; returns one for each of `outputs`.

        Raises EngineError when a tensor has a shape, dtype or device that the graph does not take, or ONNX Runtime
        refuses to run.
        """
        held = [value.detach().contiguous() for value in values]
        shapes = tuple(value.shape for value in held)
        wanted = self._known.get(shapes) or self._learn(shapes)
        binding = self._session.io_binding()
        for given, dtype, value in zip(self.graph.inputs, self._dtypes, held, strict=True):
            if value.dtype != dtype or value.device != self._device:
                raise EngineError(
                    f"{self.graph.file} takes {given.name} as {dtype} on {self._device}, and got {value.dtype} on "
                    f"{value.device}.\n  Move or cast it before the call."
                )
            binding.bind_input(given.name, *self._place(value))
        results = [
            None if shape is None else torch.empty(shape, dtype=dtype, device=self._device)
            for shape, (_, dtype) in zip(wanted, self._results, strict=True)
        ]
        for (returned, _), result in zip(self._results, results, strict=True):
            place = (self._device.type, self._device.index or 0) if result is None else self._place(result)
            binding.bind_output(returned.graph_name, *place)
        if self._device.type == "cuda":
            torch.cuda.current_stream(self._device).synchronize()  # ONNX Runtime works in a stream of its own
        try:
            self._session.run_with_iobinding(binding)
        except Exception as error:  # ONNX Runtime raises a dozen types of its own below Exception
            raise EngineError(f"ONNX Runtime cannot run {self.graph.file}: {error}") from error
        found = binding.get_outputs() if None in results else []
        return tuple(
            torch.from_numpy(found[position].numpy()).to(self._device) if result is None else result
            for position, result in enumerate(results)
        )

    def version(self) -> tuple[int, ...]:
        """Always the same: a graph's weights do not change."""
        return ()

    def sizes(self, shapes: Mapping[str, Sequence[int]]) -> dict[str, int]:
        """Return the dynamic sizes by name, as inputs of these shapes have them.

        Raises EngineError when one has another shape than the graph takes.
        """
        found: dict[str, int] = {}
        for given in self.graph.inputs:
            if given.name not in shapes:
                continue
            shape = shapes[given.name]
            # a size that is an expression of others follows from them, and ONNX Runtime sees whether it fits
            pairs = [(h, w) for h, w in zip(shape, given.shape, strict=False) if isinstance(w, int) or w.isidentifier()]
            fits = [have == (want if isinstance(want, int) else found.setdefault(want, have)) for have, want in pairs]
            if len(shape) != len(given.shape) or not all(fits):
                raise EngineError(
                    f"{self.graph.file} takes {given.name} of shape {list(given.shape)}, and got {list(shape)}.\n"
                    f"  where: {', '.join(f'{name} = {size}' for name, size in found.items()) or 'all sizes are fixed'}"
                )
        return found

    def finish_profile(self) -> str:
        """End profiling, and return the file of ONNX Runtime's profile; for an engine that has a folder for it."""
        file: str = self._session.end_profiling()
        return file

    def _learn(self, shapes: _Shapes) -> tuple[tuple[int, ...] | None, ...]:
        """The shapes of the results for inputs of these shapes; None where they follow from inputs it does not have."""
        sizes = self.sizes({given.name: shape for given, shape in zip(self.inputs, shapes, strict=True)})
        known = tuple(sizes)
        found = tuple(
            shape_of(returned.shape, sizes)
            if all(isinstance(size, int) or is_evaluable(size, known) for size in returned.shape)
            else None
            for returned, _ in self._results
        )
        if len(self._known) >= _MOST_KNOWN:
            self._known.clear()
        self._known[shapes] = found
        return found

    def _place(self, value: Tensor) -> tuple[str, int, int, list[int], int]:
        """Where a tensor lies, as ONNX Runtime asks for it."""
        pointer = value.data_ptr() if value.numel() else self._nowhere.data_ptr()
        return value.device.type, value.device.index or 0, _ELEMENTS[value.dtype], list(value.shape), pointer
