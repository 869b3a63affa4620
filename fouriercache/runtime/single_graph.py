"""The whole method as one graph with a choice inside, run as the two modes it holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

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
        self._unfed = [given for given in graph.graph.inputs if given.role in unfed]
        self._stand_ins: tuple[object, dict[str, Tensor]] = (), {}

    def __call__(self, values: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Run the step; see `GraphExecutable`."""
        named = {given.name: value for given, value in zip(self.inputs, values, strict=True)}
        form = values[0].device, [value.shape for value in values]
        known, stand_ins = self._stand_ins
        if known != form:
            stand_ins = self._make_stand_ins(named, values[0].device)
            self._stand_ins = form, stand_ins  # of the last form alone: as large as the features
        named |= stand_ins
        found = dict(zip(self._graph.outputs, self._graph([named[i.name] for i in self._graph.inputs]), strict=True))
        return tuple(found[name] for name in self.outputs)

    def _make_stand_ins(self, named: Mapping[str, Tensor], device: torch.device) -> dict[str, Tensor]:
        """What the graph takes beside `named`: which mode it is, and zeros for what that does not look at."""
        sizes = self._graph.sizes({name: value.shape for name, value in named.items()})
        return {
            given.name: torch.tensor(self._refresh, device=device)
            if given.role == "refresh"
            else torch.zeros(shape_of(given.shape, sizes), dtype=dtype_of(given.dtype), device=device)
            for given in self._unfed
        }

    def version(self) -> tuple[int, ...]:
        """Always the same: a graph's weights do not change."""
        return ()
