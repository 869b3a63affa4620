"""ONNX graphs as Triton takes them: no input without an axis, and for sequences an output for all that is kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from fouriercache.errors import LoweringError
from fouriercache.export.triton.config import ServedTensor, State
from fouriercache.extras import import_extra
from fouriercache.onnx_files import graphs_of, outside_places, parse_onnx

_REFRESH = "refresh"
"""The whole step's input that says whether it computes."""


class ServedGraph:
    """The graph of one ONNX file, to be changed and saved elsewhere. Its weights stay in the file beside it.

    Raises LoweringError when the file is no ONNX, MissingExtraError when onnx is not installed.
    """

    def __init__(self, path: Path) -> None:
        self._onnx: Any = import_extra("onnx")
        self.path = path
        try:
            self._model: Any = parse_onnx(path.read_bytes())
            self._places = outside_places(self._model)
        except ValueError as error:
            raise LoweringError(f"{path.name} cannot be served: {error}.\n  where: {path}") from error
        self._squeeze_scalars()

    def inputs(self) -> list[ServedTensor]:
        """What it takes, in order."""
        return [self._served(value) for value in self._model.graph.input]

    def outputs(self) -> list[ServedTensor]:
        """What it gives, in order."""
        return [self._served(value) for value in self._model.graph.output]

    def weight_files(self) -> set[str]:
        """Names of the files that its weights lie in."""
        return {place.location for place in self._places}

    def fix_batch(self, batch: int) -> None:
        """Give the open size of every input and output the value `batch`, as state in Triton needs fixed shapes.

        Raises LoweringError when one is open that is not the first.
        """
        for value in (*self._model.graph.input, *self._model.graph.output):
            for position, dim in enumerate(value.type.tensor_type.shape.dim):
                if not dim.HasField("dim_value"):
                    if position:
                        raise LoweringError(
                            f"{self.path.name} leaves size {position} of {value.name} open, which is not the batch.\n"
                            "  Export at fixed resolutions."
                        )
                    dim.dim_value = batch

    def add_states(self, columns: Mapping[str, Sequence[str]], states: Mapping[str, Sequence[str]]) -> list[State]:
        """Return what is kept as pairs of input and output: each column's slots, moved on where the step computed.

        A column's own output is its newest value in a step that computes, and what was there in one that does not, as
        `OutlineCond` makes it; what is behind it takes the place of its neighbour with one `Where` each.

        Args:
            columns: output that is kept -> its slots, the newest in front.
            states: inputs that take a value of the last step -> what that may be called as an output.

        Raises LoweringError when the graph has no such input or output.
        """
        given = {tensor.name: tensor for tensor in self.inputs()}
        have = {*given, *(tensor.name for tensor in self.outputs())}
        wanted = [_REFRESH, *columns, *(name for slots in columns.values() for name in slots), *states]
        pairs = {name: next((output for output in outputs if output in have), "") for name, outputs in states.items()}
        missing = [name for name in wanted if name not in have]
        missing += [" or ".join(states[name]) for name, output in pairs.items() if not output]
        if missing:
            raise LoweringError(
                f"{self.path.name} has no {', '.join(missing)}, so its state cannot be kept for a sequence.\n"
                "  Export the bundle again, with the single graph."
            )
        found = [State(given[name], output) for name, output in pairs.items()]
        for column, slots in columns.items():
            found.append(State(given[slots[0]], column))
            found += [State(given[older], self._add_choice(newer, older)) for newer, older in pairwise(slots)]
        return found

    def save(self, path: Path) -> None:
        """Write the graph. Raises OSError when it cannot be written."""
        self._onnx.save(self._model, path)

    def _add_choice(self, newer: str, older: str) -> str:
        """Add an output with `newer` where the step computed, with `older` where not; return its name."""
        graph, helper = self._model.graph, self._onnx.helper
        name = f"next_{older}"
        graph.node.append(helper.make_node("Where", [_inner(_REFRESH), newer, older], [name], name=f"keep_{older}"))
        value = graph.output.add()
        value.CopyFrom(next(value for value in graph.input if value.name == older))
        value.name = name
        return name

    def _squeeze_scalars(self) -> None:
        """Give inputs without an axis one of size 1: Triton knows no scalars."""
        graph, helper = self._model.graph, self._onnx.helper
        for value in graph.input:
            if len(value.type.tensor_type.shape.dim) == 0:
                self._rename_uses(value.name, _inner(value.name))
                node = helper.make_node("Squeeze", [value.name], [_inner(value.name)], name=f"scalar_{value.name}")
                graph.node.insert(0, node)
                value.type.tensor_type.shape.dim.add().dim_value = 1

    def _rename_uses(self, old: str, new: str) -> None:
        """Let every node of every graph inside read `new` for `old`."""
        for node in (node for graph in graphs_of(self._model) for node in graph.node):
            for position, name in enumerate(node.input):
                if name == old:
                    node.input[position] = new

    def _served(self, value: Any) -> ServedTensor:
        form = value.type.tensor_type
        shape = tuple(dim.dim_value if dim.HasField("dim_value") else -1 for dim in form.shape.dim)
        return ServedTensor(value.name, self._onnx.TensorProto.DataType.Name(form.elem_type), shape)


def _inner(name: str) -> str:
    """What a scalar input is called behind its `Squeeze`."""
    return f"{name}_scalar"
