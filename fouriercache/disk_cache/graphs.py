"""FX graphs as JSON: one entry a node, the words that many nodes share written once.

A call's target is looked up by its name among torch's operators and a few functions of Python that sizes are computed
with; so a file can name nothing else to run.
"""

from __future__ import annotations

import json
import math
import operator
from collections.abc import Mapping
from typing import Any

import torch
from torch import fx
from torch.fx.graph import CodeGen

from fouriercache.disk_cache.reasons import NotKeptError
from fouriercache.disk_cache.values import ValueReader, ValueWriter

_OF_OPERATOR = "getitem add sub mul floordiv truediv mod neg pow eq ne lt le gt ge and_ or_ not_"
_OF_MATH = "ceil floor trunc sqrt"
_PYTHON: dict[str, Any] = {
    **{f"operator.{name}": getattr(operator, name) for name in _OF_OPERATOR.split()},
    **{f"math.{name}": getattr(math, name) for name in _OF_MATH.split()},
    **{f"torch.{name}": found for name, found in vars(torch).items() if name.startswith(("sym_", "_sym_"))},
}
_NAMES = {found: name for name, found in _PYTHON.items() if callable(found)}

_KEPT = ("nn_module_stack", "stack_trace", "source")
"""What is kept of what torch says of a node besides its value: what passes, reports and errors read."""


class GraphWriter:
    """Writes graphs; what their nodes say in the same words is in one table."""

    def __init__(self) -> None:
        self.values = ValueWriter()
        self._words: dict[str, int] = {}

    def write(self, graph: fx.Graph) -> list[Any]:
        """Return a graph as JSON.

        Raises NotKeptError when it holds something that cannot be read back.
        """
        if type(graph._codegen) is not CodeGen:
            raise NotKeptError("a graph within the graph has a calling convention of its own")
        return [self._node(node) for node in graph.nodes]

    def tables(self) -> dict[str, Any]:
        """Return what `GraphReader` needs to know first."""
        return {**self.values.tables(), "words": [json.loads(words) for words in self._words]}

    def _node(self, node: fx.Node) -> list[Any]:
        said = {key: self._word(node.meta[key]) for key in _KEPT if key in node.meta}
        if "val" in node.meta:
            said["val"] = self.values.write(node.meta["val"])
        target = _target_name(node.target) if node.op == "call_function" else str(node.target)
        return [node.op, node.name, target, self.values.write(node.args), self.values.write(node.kwargs), said]

    def _word(self, value: Any) -> int:
        text = json.dumps(self.values.write(value), allow_nan=False)
        return self._words.setdefault(text, len(self._words))


class GraphReader:
    """Reads what a `GraphWriter` wrote. Its methods raise ValueError, KeyError or TypeError for anything else."""

    def __init__(self, tables: Mapping[str, Any]) -> None:
        self.values = ValueReader(tables)
        self._words = [self.values.read(found) for found in tables["words"]]

    def read(self, found: list[Any]) -> fx.Graph:
        """Return the graph of its JSON."""
        graph = fx.Graph()
        nodes: dict[str, fx.Node] = {}
        self.values.nodes = nodes
        for op, name, target, args, kwargs, said in found:
            if op not in ("placeholder", "get_attr", "call_function", "output"):
                raise ValueError(f"{name} is a {op}")
            called = _target(target) if op == "call_function" else target
            node = graph.create_node(op, called, self.values.read(args), self.values.read(kwargs), name)
            if node.name != name:
                raise ValueError(f"the node {name} is called {node.name} here")
            node.meta.update({key: self._words[said[key]] for key in _KEPT if key in said})
            if "val" in said:
                node.meta["val"] = self.values.read(said["val"])
            nodes[name] = node
        graph.lint()
        return graph


def _target_name(target: Any) -> str:
    name = None
    if isinstance(target, torch._ops.OpOverload):
        name = f"ops.{target.namespace}.{target._schema.name.partition('::')[2]}.{target._overloadname}"
    elif isinstance(target, torch._ops.HigherOrderOperator):
        name = f"higher_order.{target._name}"
    elif target in _NAMES:
        name = _NAMES[target]
    if name is None or _target(name) is not target:
        raise NotKeptError(f"the graph calls {target}, which no name stands for")
    return name


def _target(name: str) -> Any:
    if name in _PYTHON:
        return _PYTHON[name]
    kind, *rest = name.split(".")
    if kind == "ops" and len(rest) == 3:
        return _operator(*rest)
    if kind == "higher_order" and len(rest) == 1:
        found = getattr(torch.ops.higher_order, rest[0])
        if isinstance(found, torch._ops.HigherOrderOperator):
            return found
    raise ValueError(f"{name} is no operator")


def _operator(namespace: str, name: str, overload: str) -> Any:
    found = getattr(getattr(getattr(torch.ops, namespace), name), overload)
    if not isinstance(found, torch._ops.OpOverload):
        raise ValueError(f"{namespace}.{name}.{overload} is no operator")
    return found
