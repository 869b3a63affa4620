"""The only way a pass changes a graph: every new node gets its fake value, its source location and its block label.

New graphs are made in `copies`.
"""

from __future__ import annotations

import contextlib
import itertools
import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import fx
from torch._dispatch.python import enable_python_dispatcher
from torch._dynamo.source import ConstantSource
from torch._guards import detect_fake_mode
from torch.fx.experimental.proxy_tensor import make_fx
from torch.fx.experimental.symbolic_shapes import DimDynamic, StatelessSymbolicContext

from fouriercache.errors import PassError
from fouriercache.gates import tracing
from fouriercache.passes.fakes import known_result
from fouriercache.program import Input, Program, Role, value_of

aten = torch.ops.aten
_SIZES = itertools.count()
_INHERITED = ("nn_module_stack", "stack_trace", "block", "source_fn_stack")


def _complete(new: fx.Node, like: fx.Node, value: Any = None) -> fx.Node:
    """Give a new node all that it must say; `value` is its fake value where that is known."""
    for key in _INHERITED:
        if key in like.meta:
            new.meta[key] = like.meta[key]
    new.meta["val"] = known_result(new) if value is None else value
    return new


def insert_after(anchor: fx.Node, target: Callable[..., Any], *args: Any, like: fx.Node | None = None) -> fx.Node:
    """Insert a call after `anchor`; metadata comes from `like`, or from `anchor`."""
    with anchor.graph.inserting_after(anchor):
        return _complete(anchor.graph.call_function(target, args), like or anchor)


def insert_before(
    anchor: fx.Node, target: Callable[..., Any], *args: Any, like: fx.Node | None = None, **kwargs: Any
) -> fx.Node:
    """Insert a call before `anchor`; metadata comes from `like`, or from `anchor`."""
    with anchor.graph.inserting_before(anchor):
        return _complete(anchor.graph.call_function(target, args, kwargs), like or anchor)


def insert_traced(anchor: fx.Node, fn: Callable[..., Any], *sources: fx.Node, like: fx.Node | None = None) -> fx.Node:
    """Insert before `anchor` the ATen calls that `fn` makes of the tensors of `sources`; return the node of its result.

    `fn` takes one tensor for each source and returns one; it reads no other tensor and makes none from Python numbers.
    """
    values = [value_of(source) for source in sources]
    mode = detect_fake_mode(values)
    fixed = dict(mode.shape_env.replacements) if mode is not None and mode.shape_env is not None else {}
    with tracing(), mode or contextlib.nullcontext(), enable_python_dispatcher():
        values = _told_apart(values)
        traced = make_fx(fn, pre_dispatch=True, _allow_non_fake_inputs=True)(*values)
    if mode is not None and mode.shape_env is not None and mode.shape_env.replacements != fixed:
        raise PassError(f"{fn} cannot be traced into a graph: it ties a dynamic size to a number")
    copied: dict[fx.Node, fx.Node] = {}
    given = iter(sources)
    for node in traced.graph.nodes:
        if node.op == "placeholder":
            copied[node] = next(given)
        elif node.op == "call_function":
            args, kwargs = fx.map_arg((node.args, node.kwargs), lambda source: copied[source])
            with anchor.graph.inserting_before(anchor):
                new = anchor.graph.call_function(node.target, args, kwargs)
            copied[node] = _complete(new, like or anchor, node.meta.get("val"))
        elif node.op != "output":
            raise PassError(f"{fn} cannot be traced into a graph: it reads {node.target}, which is no argument")
    (result,) = traced.graph.output_node().all_input_nodes
    return copied[result]


def _told_apart(values: list[Any]) -> list[Any]:
    """Return the values, one that comes twice as a new tensor like it: a trace knows its arguments by identity."""
    seen: set[int] = set()
    found = []
    for value in values:
        is_again = id(value) in seen
        seen.add(id(value))
        found.append(torch.empty_strided(value.shape, value.stride(), dtype=value.dtype, device=value.device)
                     if is_again else value)  # fmt: skip
    return found


def new_size(like: torch.Tensor, usual: int) -> Any:
    """Return a dynamic size of its own for a fake value in the mode of `like`; `usual` is the number it stands at."""
    mode = detect_fake_mode([like])
    if mode is None:
        raise PassError("a dynamic size needs fake values")
    context: Any = StatelessSymbolicContext(dynamic_sizes=[DimDynamic.DYNAMIC])
    # The source is only a name: it must be new for each size, or the sizes would be one.
    source = ConstantSource(f"size_{next(_SIZES)}")
    fake = mode.from_tensor(torch.empty(usual), static_shapes=False, symbolic_context=context, source=source)
    return fake.shape[0]


def insert_layout(anchor: fx.Node, node: fx.Node, like: fx.Node) -> fx.Node:
    """Return `node` with the strides of `like`: itself if it has them, else a contiguous copy before `anchor`.

    Where neither has them (the two differ in shape, say), `node` is returned as it is.
    """
    if _strides(node) == _strides(like):
        return node
    copied = insert_before(anchor, torch.ops.aten.clone.default, node, memory_format=torch.contiguous_format)
    if _strides(copied) == _strides(like):
        return copied
    anchor.graph.erase_node(copied)
    return node


def _strides(node: fx.Node) -> tuple[str, ...]:
    return _form(value_of(node))


def _form(value: Any) -> tuple[str, ...]:
    """The strides of a value's tensors, as text: comparing symbolic sizes would add guards to the capture."""
    tensors = [leaf for leaf in torch.utils._pytree.tree_leaves(value) if isinstance(leaf, torch.Tensor)]
    return tuple(str(stride) for tensor in tensors for stride in tensor.stride())


def replace_uses(old: fx.Node, new: fx.Node) -> None:
    """Make every user of `old` read `new` instead, but for `new` itself, which may read `old`."""
    old.replace_all_uses_with(new, delete_user_cb=lambda user: user is not new, propagate_meta=False)


def renew_readers(node: fx.Node) -> bool:
    """Compute the fake values of what reads `node` afresh, for as far as its strides have been passed on.

    Returns:
        Whether every call takes them; a view may not. If one does not, all values are as they were.
    """
    renewed, before = {node}, dict[fx.Node, Any]()
    for reader in itertools.dropwhile(lambda other: other is not node, node.graph.nodes):
        if reader.op == "call_function" and not renewed.isdisjoint(reader.all_input_nodes):
            try:
                value = known_result(reader)
            except (RuntimeError, ValueError):  # as torch's view, and its decomposition, raise
                for renewed_reader, old in before.items():
                    renewed_reader.meta["val"] = old
                return False
            if _form(value) != _form(reader.meta["val"]):
                before[reader], reader.meta["val"] = reader.meta["val"], value
                renewed.add(reader)
    return True


def redirect(user: fx.Node, old: fx.Node, new: fx.Node) -> None:
    """Make one user of `old` read `new` instead."""
    user.replace_input_with(old, new)


def insert_input(program: Program, name: str, value: Any, role: Role) -> fx.Node:
    """Add a placeholder behind the last one; `value` is its fake value."""
    last = program.placeholders[-1]
    with program.graph.inserting_after(last):
        node = program.graph.placeholder(name)
    if node.name != name:
        raise PassError(f"the graph already has a node called {name}")
    node.meta["val"] = value
    program.set_inputs((*program.inputs, Input(name, role)))
    return node


def retype_input(node: fx.Node, value: Any) -> None:
    """Give a placeholder another fake value: what is fed to it has another form from now on."""
    node.meta["val"] = value


def insert_constant(program: Program, name: str, value: torch.Tensor) -> fx.Node:
    """Return the node that reads a tensor of the program's own, added in front of all calls unless it is there already.

    Args:
        name: tells the tensor from all others: one that was added under this name before is the same.
    """
    known: Sequence[fx.Node] = list(program.graph.find_nodes(op="get_attr", target=name))
    if known:
        return known[0]
    last = program.placeholders[-1]
    mode = detect_fake_mode([value_of(node) for node in program.placeholders])
    program.attributes[name] = value
    with program.graph.inserting_after(last):
        node = program.graph.get_attr(name)
    node.meta.update(val=mode.from_tensor(value) if mode else value, source=name)
    return node


def remove_inputs(program: Program, *roles: Role) -> int:
    """Erase the placeholders of `roles` that nothing reads; return how many."""
    kept = []
    count = 0
    for node, given in zip(program.placeholders, program.inputs, strict=True):
        if given.role in roles and not node.users:
            program.graph.erase_node(node)
            count += 1
        else:
            kept.append(given)
    program.set_inputs(kept)
    return count


def insert_cond(
    program: Program, predicate: fx.Node, bodies: Mapping[str, fx.GraphModule], operands: Sequence[fx.Node]
) -> list[fx.Node]:
    """Add a `torch.cond` at the end of the graph; return its results.

    Args:
        bodies: the true and the false body, under the names they get among the program's attributes.
    """
    end, graph = program.output_node, program.graph
    with graph.inserting_before(end):
        branches = [graph.get_attr(name) for name in bodies]
        program.attributes.update(bodies)
        chosen = graph.call_function(torch.ops.higher_order.cond, (predicate, *branches, tuple(operands)))
    body = next(iter(bodies.values()))
    values = body.graph.output_node().args[0]
    assert isinstance(values, tuple)
    chosen.meta["val"] = tuple(map(value_of, values))
    return [insert_before(end, operator.getitem, chosen, position, like=chosen) for position in range(len(values))]
