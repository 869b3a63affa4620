"""Questions about a graph that several passes ask: views, cones, dependence, blocks. Nothing here edits."""

from __future__ import annotations

import operator
from collections.abc import Callable, Container, Iterable

import torch
from torch import fx
from torch._higher_order_ops.flex_attention import flex_attention

from fouriercache.program import Program, tensor_of

aten = torch.ops.aten

_PERMUTES = {
    aten.transpose.int, aten.permute.default, aten.mT.default, aten.t.default, aten.movedim.int, aten.movedim.intlist,
    aten.swapaxes.default, aten.swapdims.default, aten.moveaxis.int, aten.moveaxis.intlist,
}  # fmt: skip
_VIEWS = {
    aten.view.default, aten.reshape.default, aten.unsqueeze.default, aten.squeeze.dim, aten.squeeze.default,
    aten.flatten.using_ints, aten.unflatten.int, aten.contiguous.default, aten.clone.default, aten.alias.default,
    aten.expand.default, aten.detach.default, aten.squeeze.dims,
    aten._unsafe_view.default, aten.view_as.default, aten.reshape_as.default, aten.expand_as.default, *_PERMUTES,
}  # fmt: skip
CASTS = {
    aten.to.dtype, aten.to.dtype_layout, aten.to.device, aten.to.other, aten._to_copy.default, aten.type_as.default,
}  # fmt: skip
_COPIES = {aten.contiguous.default, aten.clone.default, aten.alias.default, aten.detach.default}
# fp16 models clip a block's output to the finite range; the stream goes on behind the clip.
_CLIPS = {aten.clip.default, aten.clamp.default, aten.nan_to_num.default}
_ATTENTION = {
    aten.scaled_dot_product_attention.default,
    aten._scaled_dot_product_flash_attention_for_cpu.default,
    aten._scaled_dot_product_efficient_attention.default,
    flex_attention,
}
_MATMULS = {
    aten.linear.default, aten.matmul.default, aten.mm.default, aten.addmm.default, aten.bmm.default,
    aten.baddbmm.default, aten.einsum.default, aten.conv1d.default, aten.conv2d.default, aten.conv3d.default,
    aten.conv1d.padding, aten.conv2d.padding, aten.conv3d.padding, aten.convolution.default,
}  # fmt: skip
_SOFTMAX = {aten.softmax.int, aten._softmax.default}


def is_view(node: fx.Node) -> bool:
    """Whether the node shows its first argument with another shape or strides and no other values."""
    return node.target in _VIEWS


def is_permuted(node: fx.Node) -> bool:
    """Whether the node shows its first argument with its dimensions in another order."""
    return node.target in _PERMUTES


def strip(node: fx.Node, *targets: object, through: Callable[[fx.Node], bool] | None = None) -> fx.Node:
    """Walk up from `node` through calls that have a target in `targets` or that `through` accepts."""
    while node.op == "call_function" and (node.target in targets or (through is not None and through(node))):
        source = node.args[0]
        if not isinstance(source, fx.Node):
            break
        node = source
    return node


def strip_stream(node: fx.Node, within: Container[fx.Node] | None = None) -> fx.Node:
    """Walk up through views, casts and clips: what is left is the value that a token stream carries.

    With `within`, the walk stops at the first node outside it.
    """

    def carries(n: fx.Node) -> bool:
        inside = within is None or n in within
        return inside and (is_view(n) or n.target in CASTS or n.target in _CLIPS)

    return strip(node, through=carries)


def strip_values(node: fx.Node, within: Container[fx.Node] | None = None) -> fx.Node:
    """The same through casts, clips and copies alone: every entry stays where it is."""

    def keeps(n: fx.Node) -> bool:
        inside = within is None or n in within
        return inside and (n.target in _COPIES or n.target in CASTS or n.target in _CLIPS)

    return strip(node, through=keeps)


def strip_casts(node: fx.Node) -> fx.Node:
    """Walk up through casts alone; the shape stays."""
    return strip(node, *CASTS)


def ancestors(node: fx.Node, within: Iterable[fx.Node] | None = None) -> set[fx.Node]:
    """Every node that `node` is computed from.

    With `within`, the walk goes on only from nodes in it: nodes outside are reported and not entered.
    """
    inside = None if within is None else set(within)
    seen: set[fx.Node] = set()
    todo = [node]
    while todo:
        here = todo.pop()
        if inside is not None and here not in inside:
            continue
        for source in here.all_input_nodes:
            if source not in seen:
                seen.add(source)
                todo.append(source)
    return seen


def descendants(sources: Iterable[fx.Node]) -> set[fx.Node]:
    """The sources and every node whose values are computed from one of them; sizes are not values."""
    seen = set(sources)
    todo = list(seen)
    while todo:
        for user in todo.pop().users:
            if user not in seen and user.target is not aten.sym_size.int:
                seen.add(user)
                todo.append(user)
    return seen


def is_attention(cone: Iterable[fx.Node]) -> bool:
    """Whether the nodes hold a fused attention, or a softmax between matrix products."""
    targets = {node.target for node in cone if node.op == "call_function"}
    return bool(targets & _ATTENTION) or (bool(targets & _SOFTMAX) and bool(targets & _MATMULS))


def is_heavy(cone: Iterable[fx.Node]) -> bool:
    """Whether the nodes hold a matrix product, a convolution or an attention."""
    return any(node.op == "call_function" and (node.target in _MATMULS or node.target in _ATTENTION) for node in cone)


def piece_of(node: fx.Node) -> tuple[fx.Node, int, int, int] | None:
    """Read `node` as a contiguous piece of a larger tensor: (whole, dimension, start, stop), all known numbers.

    Understands `slice`, `narrow`, and one output of `split`, `split_with_sizes` and `chunk`.
    """
    if node.op != "call_function":
        return None
    if node.target is aten.slice.Tensor:
        whole, dim, start, stop, step = _slice_arguments(node)
        if whole is None or step != 1:
            return None
        return _piece(whole, dim, start, stop)
    if node.target is operator.getitem and isinstance(node.args[0], fx.Node):
        return _piece_of_split(node.args[0], node.args[1])
    return None


def _slice_arguments(node: fx.Node) -> tuple[fx.Node | None, object, object, object, object]:
    given = [*node.args, *[None] * 5][:5]
    whole, dim, start, stop, step = given
    return (
        whole if isinstance(whole, fx.Node) else None,
        0 if dim is None else dim,
        0 if start is None else start,
        2**63 - 1 if stop is None else stop,
        1 if step is None else step,
    )


def _piece(whole: fx.Node, dim: object, start: object, stop: object) -> tuple[fx.Node, int, int, int] | None:
    value = tensor_of(whole)
    if value is None or not (isinstance(dim, int) and isinstance(start, int) and isinstance(stop, int)):
        return None
    size = value.shape[dim]
    if not isinstance(size, int):
        return None
    start, stop = (bound + size if bound < 0 else bound for bound in (start, stop))
    return whole, dim % value.ndim, max(0, min(start, size)), max(0, min(stop, size))


def _piece_of_split(split: fx.Node, index: object) -> tuple[fx.Node, int, int, int] | None:
    targets = (aten.split.Tensor, aten.split_with_sizes.default, aten.chunk.default)
    if split.target not in targets or not isinstance(index, int) or not isinstance(split.args[0], fx.Node):
        return None
    dim = split.args[2] if len(split.args) > 2 else split.kwargs.get("dim", 0)
    outputs = split.meta["val"]
    whole = tensor_of(split.args[0])
    if whole is None or not isinstance(dim, int):
        return None
    sizes = [part.shape[dim] for part in outputs]
    if not all(isinstance(size, int) for size in sizes):
        return None
    start = sum(sizes[:index])
    return split.args[0], dim % whole.ndim, start, start + sizes[index]


# These return their argument where they have nothing to change, and their schema does not say so.
_MAY_RETURN_ARGUMENT = {aten.dropout.default, aten.feature_dropout.default, aten.einsum.default, operator.getitem}


def shared_with(node: fx.Node) -> set[fx.Node]:
    """Return the nodes whose memory `node` may share, itself included: what it may be a view of, all the way up."""
    seen: set[fx.Node] = set()
    todo = [node]
    while todo:
        here = todo.pop()
        if here in seen:
            continue
        seen.add(here)
        if here.op == "call_function" and (_is_aliasing(here) or here.target in _MAY_RETURN_ARGUMENT):
            todo.extend(here.all_input_nodes)
    return seen


def _is_aliasing(node: fx.Node) -> bool:
    """Whether the call's schema says that a result may be a view of an argument."""
    target = node.target
    return isinstance(target, torch._ops.OpOverload) and any(value.alias_info for value in target._schema.returns)


def written(program: Program) -> set[fx.Node]:
    """Every node whose memory some call writes to."""
    found: set[fx.Node] = set()
    for node in program.calls():
        if isinstance(node.target, torch._ops.OpOverload) and node.target._schema.is_mutable:
            found |= set().union(*map(shared_with, node.all_input_nodes))
    return found
