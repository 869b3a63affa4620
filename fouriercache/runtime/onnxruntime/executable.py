"""A graph in ONNX Runtime as an executable: tensors in, tensors out, bound by address, nothing of them copied."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import torch
from torch import Tensor

from fouriercache.bundle import Graph, is_evaluable, shape_of
from fouriercache.errors import EngineError
from fouriercache.program import Input, Output
from fouriercache.runtime.onnxruntime.binding import Binding

_Shapes: TypeAlias = tuple[torch.Size, ...]

_MOST_KNOWN = 64
"""Sets of input shapes for which those of the results are kept, and bindings."""


class _Form(NamedTuple):
    """What is known of inputs of one set of shapes.

    `results` has the shapes of what they give, None where they follow from inputs that the graph does not have.
    `idle` are the bindings that no thread is using now.
    """

    results: tuple[tuple[int, ...] | None, ...]
    idle: list[Binding]


class GraphExecutable:
    """A graph that is called like a program on any other backend.

    A kept feature is bound where it lies, and what is to be kept is written to memory that torch has just given out, so
    a ring of features is never copied. What is bound stays bound between calls. Several threads may call it at a time.

    Attributes:
        graph: what the manifest says of it.
    """

    def __init__(self, graph: Graph, session: Any, device: torch.device) -> None:
        self.graph = graph
        self.inputs = tuple(Input(given.name, given.role) for given in graph.inputs)
        self.outputs = tuple(returned.name for returned in graph.outputs)
        self._session, self._device = session, device
        self._known: dict[_Shapes, _Form] = {}

    @property
    def returned(self) -> tuple[Output, ...]:
        """What it gives, with roles."""
        return tuple(Output(returned.name, returned.role) for returned in self.graph.outputs)

    def __call__(self, values: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Run on one tensor for each of `inputs`, in their order; returns one for each of `outputs`.

        Raises EngineError when a tensor has a shape, dtype or device that the graph does not take, or ONNX Runtime
        refuses to run.
        """
        held = [value if value.is_contiguous() else value.contiguous() for value in values]
        shapes = tuple(value.shape for value in held)
        form = self._known.get(shapes) or self._learn(shapes)
        try:
            binding = form.idle.pop()
        except IndexError:  # none yet, or each in the hands of another thread
            binding = Binding(self._session, self.graph, self._device, shapes, form.results)
        binding.take(held)
        results = binding.give()
        if self._device.type == "cuda":
            torch.cuda.current_stream(self._device).synchronize()  # ONNX Runtime works in a stream of its own
        try:
            self._session.run_with_iobinding(binding.bound)
        except Exception as error:  # ONNX Runtime raises a dozen types of its own below Exception
            raise EngineError(f"ONNX Runtime cannot run {self.graph.file}: {error}") from error
        made = [result for result in results if result is not None]
        if len(made) == len(results):  # a binding that failed, or that holds results of its own, is not used again
            form.idle.append(binding)
            return tuple(made)
        found = binding.bound.get_outputs()
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

    def _learn(self, shapes: _Shapes) -> _Form:
        """What is known of inputs of these shapes."""
        sizes = self.sizes({given.name: shape for given, shape in zip(self.inputs, shapes, strict=True)})
        known = tuple(sizes)
        results = tuple(
            shape_of(returned.shape, sizes)
            if all(isinstance(size, int) or is_evaluable(size, known) for size in returned.shape)
            else None
            for returned in self.graph.outputs
        )
        if len(self._known) >= _MOST_KNOWN:
            self._known.clear()
        found = self._known[shapes] = _Form(results, [])
        return found
