"""The ATen calls that torch's ONNX translation knows: a program is written in them, and then not traced a second time.

`torch.onnx` decomposes a program by tracing all of it again, which takes longer than everything else that it does. A
program in which nothing is left to decompose comes out of that as it went in.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Collection, Mapping
from typing import Any

import torch
from torch import fx

from fouriercache.program import Program, tensor_of

_aten = torch.ops.aten

_Emit = Callable[..., fx.Node]
"""Adds a call of an operator to a graph: `emit(operator, *arguments, **options)`."""

_COMPOSITES = frozenset(
    {
        _aten.chunk.default,
        _aten.contiguous.default,
        _aten.conv1d.default,
        _aten.conv2d.default,
        _aten.conv3d.default,
        _aten.einsum.default,
        _aten.expand_as.default,
        _aten.flatten.using_ints,
        _aten.group_norm.default,
        _aten.layer_norm.default,
        _aten.linear.default,
        _aten.matmul.default,
        _aten.narrow.default,
        _aten.pad.default,
        _aten.reshape.default,
        _aten.scaled_dot_product_attention.default,
        _aten.softmax.int,
        _aten.sym_size.int,
        _aten.type_as.default,
        _aten.unflatten.int,
        _aten.view_as.default,
    }
)
"""Operators made of others that are translated whole."""


def write_in_known_calls(program: Program) -> Program:
    """Return the program, itself and in the bodies of its control flow, without the calls of `_REWRITES`."""
    copy = program.clone()
    _rewrite(copy.graph)
    for name, value in copy.attributes.items():
        if isinstance(value, fx.GraphModule):
            body = fx.Graph()
            body.output(body.graph_copy(value.graph, {}))
            _rewrite(body)
            copy.attributes[name] = fx.GraphModule(value, body)
    return copy


def trace_no_more_than_needed(exported: torch.export.ExportedProgram) -> None:
    """Let `exported.run_decompositions` return the program itself where it has nothing to decompose."""
    decompose = exported.run_decompositions

    def decompose_if_needed(table: Mapping[Any, Any]) -> torch.export.ExportedProgram:
        modules = [module for module in exported.graph_module.modules() if isinstance(module, fx.GraphModule)]
        is_done = all(_is_known(node, table) for module in modules for node in module.graph.nodes)
        return exported if is_done else decompose(table)

    vars(exported)["run_decompositions"] = decompose_if_needed


def _is_known(node: fx.Node, table: Collection[Any]) -> bool:
    """Whether decomposing by this table would leave a node as it is."""
    target = node.target
    if node.op != "call_function" or not isinstance(target, torch._ops.OpOverload):
        return True
    if target in table or target._schema.is_mutable:
        return False
    key = torch._C.DispatchKey.CompositeImplicitAutograd
    return target in _COMPOSITES or not target.has_kernel_for_dispatch_key(key)


def _rewrite(graph: fx.Graph) -> None:
    for node in list(graph.nodes):
        rewrite = _REWRITES.get(node.target) if node.op == "call_function" else None
        if rewrite is None:
            continue
        with graph.inserting_before(node):
            made = rewrite(lambda target, *args, **options: graph.call_function(target, args, options), node)
        if made is not None:
            made.meta["val"] = node.meta.get("val")  # all that is asked of what is made here; the trace gives it more
            node.replace_all_uses_with(made)
            graph.erase_node(node)


def _reshape(emit: _Emit, node: fx.Node) -> fx.Node:
    """Write a view as what it is in ONNX, where tensors have no strides that it could fail on.

    What is transposed is copied first, which in ONNX is nothing: its strides change when attention is decomposed, and
    in the bodies of control flow torch makes a view of the reshape before that.
    """
    value, shape = node.args
    assert isinstance(shape, (list, tuple))
    if _is_complex(value):
        return _of_pairs(emit, _aten.reshape.default, value, [*shape, 2])
    if isinstance(value, fx.Node) and value.target in (_aten.transpose.int, _aten.permute.default):
        value = emit(_aten.clone.default, value, memory_format=torch.contiguous_format)
    return emit(_aten.reshape.default, value, shape)


def _complex_expand(emit: _Emit, node: fx.Node) -> fx.Node | None:
    value, shape = node.args
    assert isinstance(shape, (list, tuple))
    return _of_pairs(emit, _aten.expand.default, value, [*shape, -1]) if _is_complex(value) else None


def _complex_unsqueeze(emit: _Emit, node: fx.Node) -> fx.Node | None:
    value, dim = node.args
    assert isinstance(dim, int)
    if not _is_complex(value):
        return None
    return _of_pairs(emit, _aten.unsqueeze.default, value, dim if dim >= 0 else dim - 1)


def _complex_index(emit: _Emit, node: fx.Node) -> fx.Node | None:
    value, indices = node.args
    return _of_pairs(emit, _aten.index.Tensor, value, indices) if _is_complex(value) else None


def _complex_split(emit: _Emit, node: fx.Node) -> fx.Node | None:
    value, sizes, dim = (*node.args, 0)[:3]
    if not _is_complex(value) or not isinstance(dim, int) or dim < 0:
        return None
    parts = emit(_aten.split_with_sizes.default, emit(_aten.view_as_real.default, value), sizes, dim)
    for user in list(node.users):
        part = emit(_aten.view_as_complex.default, emit(operator.getitem, parts, user.args[1]))
        part.meta["val"] = user.meta.get("val")
        user.replace_all_uses_with(part)
        user.graph.erase_node(user)
    return parts


def _of_pairs(emit: _Emit, target: Any, value: Any, *args: Any) -> fx.Node:
    """Call an operator that only moves values on the pairs of real numbers that a complex tensor is in ONNX."""
    return emit(_aten.view_as_complex.default, emit(target, emit(_aten.view_as_real.default, value), *args))


def _is_complex(value: Any) -> bool:
    tensor = tensor_of(value) if isinstance(value, fx.Node) else None
    return tensor is not None and tensor.is_complex()


def _cast(emit: _Emit, node: fx.Node) -> fx.Node:
    return emit(_aten._to_copy.default, node.args[0], dtype=node.args[1])


def _outer(emit: _Emit, node: fx.Node) -> fx.Node:
    left, right = node.args
    return emit(_aten.mul.Tensor, emit(_aten.unsqueeze.default, left, 1), right)


def _subtract_from(emit: _Emit, node: fx.Node) -> fx.Node:
    value, scalar, *scale = node.args
    scaled = emit(_aten.mul.Scalar, value, scale[0]) if scale else value
    return emit(_aten.add.Scalar, emit(_aten.neg.default, scaled), scalar)


def _both(emit: _Emit, node: fx.Node) -> fx.Node:
    return emit(_aten.bitwise_and.Tensor, *node.args)


def _rms_norm(emit: _Emit, node: fx.Node) -> fx.Node:
    """Write x / sqrt(mean(x^2) + eps) * weight, in at least float32, as torch computes it."""
    value, shape, weight, eps = (*node.args, None, None)[:4]
    assert isinstance(value, fx.Node)
    assert isinstance(shape, (list, tuple))
    tensor = tensor_of(value)
    assert tensor is not None
    is_half = tensor.dtype in (torch.float16, torch.bfloat16)
    wide = torch.float32 if is_half else tensor.dtype
    x = emit(_aten._to_copy.default, value, dtype=wide) if is_half else value
    dims = list(range(-len(shape), 0))
    mean = emit(_aten.mean.dim, emit(_aten.pow.Tensor_Scalar, x, 2), dims, True)
    scale = emit(_aten.rsqrt.default, emit(_aten.add.Scalar, mean, torch.finfo(wide).eps if eps is None else eps))
    normed = emit(_aten.mul.Tensor, x, scale)
    if weight is not None:
        normed = emit(_aten.mul.Tensor, normed, weight)
    return emit(_aten._to_copy.default, normed, dtype=tensor.dtype) if is_half else normed


_REWRITES: Mapping[Any, Callable[[_Emit, fx.Node], fx.Node | None]] = {
    _aten.to.dtype: _cast,
    _aten.outer.default: _outer,
    _aten.rsub.Scalar: _subtract_from,
    _aten.__and__.Tensor: _both,
    _aten.rms_norm.default: _rms_norm,
    _aten.view.default: _reshape,
    _aten.reshape.default: _reshape,
    _aten.expand.default: _complex_expand,
    _aten.unsqueeze.default: _complex_unsqueeze,
    _aten.split_with_sizes.default: _complex_split,
    _aten.index.Tensor: _complex_index,
}
"""How calls that torch.onnx does not know, or not of such tensors, are written in calls that it does."""
