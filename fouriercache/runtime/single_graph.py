"""The whole method as one graph with a choice inside, run as the two modes it holds."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from fouriercache.bundle import dtype_of, shape_of
from fouriercache.program import Input
from fouriercache.runtime.onnxruntime import GraphExecutable

_KEPT = ("slot", "coefficients")


class SingleGraphStep:
    """One of the two modes of a single graph.

    A computed step reads no features, and a first step has none: zeros stand in for them, which the graph never looks
    at. A cached step drops what the graph returns of the features, as they are those that it was given.
    """

    def __init__(self, graph: GraphExecutable, *, refresh: bool) -> None:
        self._graph, self._refresh = graph, refresh
        unfed = ("refresh", *_KEPT) if refresh else ("refresh",)
        self.inputs: tuple[Input, ...] = tuple(given for given in graph.inputs if given.role not in unfed)
        self.returned = tuple(output for output in graph.returned if refresh or output.role == "result")
        self.outputs = tuple(output.name for output in self.returned)

    def __call__(self, values: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Run the step; see `GraphExecutable`."""
        named = {given.name: value for given, value in zip(self.inputs, values, strict=True)}
        device = values[0].device
        if self._refresh:
            sizes = self._graph.sizes({name: value.shape for name, value in named.items()})
            for given in self._graph.graph.inputs:
                if given.role in _KEPT:
                    shape = shape_of(given.shape, sizes)
                    named[given.name] = torch.zeros(shape, dtype=dtype_of(given.dtype), device=device)
        for given in self._graph.graph.inputs:
            if given.role == "refresh":
                named[given.name] = torch.tensor(self._refresh, device=device)
        found = dict(zip(self._graph.outputs, self._graph([named[i.name] for i in self._graph.inputs]), strict=True))
        return tuple(found[name] for name in self.outputs)

    def version(self) -> tuple[int, ...]:
        """Always the same: a graph's weights do not change."""
        return ()
