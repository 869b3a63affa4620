"""What a model makes in a first forward and finds again in later ones: tables of positions, most often.

torch.export shows how such a table is made, for it keeps nothing. So forwards are watched: what one reads, though
nobody gave it and it made no such thing itself, was there before.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor, fx, nn
from torch._subclasses import FakeTensor
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree
from torch.utils.weak import WeakIdKeyDictionary

from fouriercache.program import Program, sizes_of, tensor_of
from fouriercache.questions import Recording, is_same, record

aten = torch.ops.aten


class _Watch(TorchFunctionMode):
    """Notes what a forward makes, and what it reads that it neither made nor was given; holds none of it."""

    def __init__(self, given: Iterable[Tensor]) -> None:
        super().__init__()
        self._given, self._made, self._found = (WeakIdKeyDictionary() for _ in range(3))
        self._given.update(dict.fromkeys(given))

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if torch.compiler.is_dynamo_compiling():  # a part that the model compiles is no business of ours
            return func(*args, **kwargs)
        self._found.update({read: None for read in _tensors((args, kwargs)) if self._is_new(read)})
        result = func(*args, **kwargs)
        self._made.update({made: None for made in _tensors(result) if self._is_new(made)})
        return result

    def _is_new(self, tensor: Tensor) -> bool:
        return all(tensor not in known for known in (self._given, self._made, self._found))

    @property
    def found(self) -> tuple[Tensor, ...]:
        """What was there before and is there still."""
        return tuple(self._found.keys())

    def leaves(self, returned: Iterable[Tensor]) -> bool:
        """Whether anything it made is there still, but for what it returned."""
        known = {id(tensor) for tensor in returned}
        return any(id(tensor) not in known for tensor in self._made)


def record_with_tables(
    model: nn.Module, arguments: Mapping[str, Any], run: Callable[..., list[Any]]
) -> tuple[Recording, tuple[Tensor, ...]]:
    """Run the model as `questions.record` does, and find what its forwards have from earlier ones.

    A forward that leaves something behind is followed by another one, which shows whether that is read again.

    Raises:
        Exception: whatever `run` raises.
    """
    given = [*model.parameters(), *model.buffers(), *_tensors(arguments)]
    watch = _Watch(given)
    with watch:
        recording = record(model, arguments, run)
    answers = itertools.chain.from_iterable(recording.answers.values())
    if watch.leaves(_tensors((recording.outputs, [(answer.values, answer.result) for answer in answers]))):
        watch = _Watch(given)
        with watch:
            run(model, arguments)
    return recording, watch.found


def find_kept(program: Program, tensors: Sequence[Tensor], tables: Sequence[Tensor]) -> tuple[str, ...]:
    """Return the names of the calls that make a table which the model has from an earlier forward.

    They depend on no input's values, and their results are the table's to the bit. Of calls that make one from the
    other it is the first. A second one like it that is made anew in every forward cannot be told from it.

    Args:
        tensors: of the call that the tables were found in.
    """
    free = _free(program) if tables else []
    wanted = {node for node in free if any(_may_be(node, table) for table in tables)}
    needed, todo = set[fx.Node](), [*wanted]
    while todo:
        node = todo.pop()
        if node not in needed:
            needed.add(node)
            todo += node.all_input_nodes
    given = dict(zip(program.placeholders, tensors, strict=True))
    values: dict[fx.Node, Any] = {}
    held: dict[fx.Node, set[int]] = {}  # tables by position, of a node and of what it is made from
    found = []
    for node in free:
        if node not in needed:
            continue
        values[node] = _value(program, node, values, given)
        held[node] = set().union(*(held.get(source, ()) for source in node.all_input_nodes))
        if node in wanted:
            same = {i for i, table in enumerate(tables) if _is_table(values[node], table)} - held[node]
            held[node] |= same
            found += [node.name] if same and node.op == "call_function" else []
    return tuple(found)


def _free(program: Program) -> list[fx.Node]:
    """The weights, the sizes of inputs, and the calls that depend on them alone, in order."""
    found: dict[fx.Node, None] = {}
    for node in program.graph.nodes:
        sources = node.all_input_nodes
        is_size = node.target is aten.sym_size.int and sources[0].op == "placeholder"
        is_call = node.op == "call_function" and all(source in found for source in sources)
        if node.op == "get_attr" or is_size or is_call:
            found[node] = None
    return list(found)


def _may_be(node: fx.Node, table: Tensor) -> bool:
    """Whether a node's form is the table's, as far as its sizes are known."""
    tensor = tensor_of(node)
    if tensor is None or tensor.dtype != table.dtype or tensor.ndim != table.ndim:
        return False
    return all(isinstance(size, str) or size == n for size, n in zip(sizes_of(tensor), table.shape, strict=True))


def _value(program: Program, node: fx.Node, values: Mapping[fx.Node, Any], given: Mapping[fx.Node, Tensor]) -> Any:
    if node.op == "get_attr":
        return program.attributes[str(node.target)]
    args, kwargs = fx.map_arg((node.args, node.kwargs), lambda source: values.get(source, given.get(source)))
    with torch.no_grad():
        return cast(Callable[..., Any], node.target)(*args, **kwargs)


def _is_table(value: Any, table: Tensor) -> bool:
    return isinstance(value, Tensor) and value.device == table.device and is_same(value, table)


def _tensors(values: Any) -> list[Tensor]:
    """The tensors among the leaves, but for fake ones: those are of a part that the model compiles."""
    leaves = pytree.tree_leaves(values)
    return [leaf for leaf in leaves if isinstance(leaf, Tensor) and not isinstance(leaf, FakeTensor)]
