"""Follow a token stream upwards through its residual adds."""

from __future__ import annotations

from collections.abc import Container, Iterator
from dataclasses import dataclass, field

import torch
from torch import fx

from fouriercache.passes.blocks import BlockGraph
from fouriercache.passes.match import is_heavy, piece_of, strip_stream, strip_values
from fouriercache.program import NoMatch, tensor_of

aten = torch.ops.aten
_ADDS = {aten.add.Tensor, aten.add_.Tensor}


@dataclass(frozen=True)
class Residual:
    """One add on the spine: `add = spine + branch`; `root` is the value of the stream that the branch reads."""

    add: fx.Node
    spine: fx.Node
    branch: fx.Node
    root: fx.Node


@dataclass(frozen=True)
class Window:
    """The part of a value that the stream is: `start` to `stop` along `dim`."""

    dim: int
    start: int
    stop: int


@dataclass(frozen=True)
class Stream:
    """A stream followed from `output` up to `entry`, its residuals from last to first.

    `entry` is None when the spine broke; `broken` then says where.
    """

    output: fx.Node
    entry: fx.Node | None
    residuals: tuple[Residual, ...]
    broken: NoMatch | None = None
    window: Window | None = field(default=None, repr=False)


def follow(output: fx.Node, window: Window | None, block: BlockGraph) -> Stream:
    """Follow the stream that leaves `block` at `output` to the value at which it came in."""
    residuals: list[Residual] = []
    node = output
    while True:
        node, window, found = _climb(node, window, block)
        residuals += found
        if node not in block.nodes:
            return Stream(output, node, tuple(residuals), None, window)
        parted = _whole_of_parts(node, block) if window is None else None
        if parted is not None:
            node, found = parted
            residuals += found
            continue
        if node.target in _ADDS:
            reason = "an add whose operands are not a stream and a branch computed from it"
        else:
            reason = f"a {getattr(node.target, '__name__', node.target)}"
        broken = NoMatch(f"{block.path}: the spine of {output.name} ends at {reason}", node.name)
        return Stream(output, None, tuple(residuals), broken, window)


def _climb(node: fx.Node, window: Window | None, block: BlockGraph) -> tuple[fx.Node, Window | None, list[Residual]]:
    """Walk up as far as the stream is one value: through adds, and products with what does not depend on the sample."""
    residuals: list[Residual] = []
    while True:
        node, window = to_add(node, window, block.nodes)
        if node not in block.nodes:
            return node, window, residuals
        step = _step_up(node, block) if node.target in _ADDS else _unscaled(node, block)
        if step is None:
            return node, window, residuals
        node, residual = step
        residuals += [residual] if residual is not None else []


def _unscaled(node: fx.Node, block: BlockGraph) -> tuple[fx.Node, None] | None:
    """The stream in a product with a mask or another factor that does not depend on the sample."""
    if node.target is not aten.mul.Tensor:
        return None
    moving = [n for n in node.args if isinstance(n, fx.Node) and block.moves(n) and _has_rank(n, node)]
    return (moving[0], None) if len(moving) == 1 and len(node.all_input_nodes) == 2 else None


def _whole_of_parts(cat: fx.Node, block: BlockGraph) -> tuple[fx.Node, list[Residual]] | None:
    """The value above a concatenation whose operands are its parts again, each with residuals of its own.

    So a model treats some tokens (a history, a text) otherwise than the rest for a part of a block.
    """
    value = tensor_of(cat)
    if cat.target is not aten.cat.default or value is None:
        return None
    dim = cat.args[1] if len(cat.args) > 1 else cat.kwargs.get("dim", 0)
    if not isinstance(dim, int):
        return None
    residuals: list[Residual] = []
    wholes, stop = set[fx.Node](), 0
    for operand in cat.all_input_nodes:
        whole, window, found = _climb(operand, None, block)
        if window is None or (window.dim, window.start) != (dim % value.ndim, stop):
            return None
        stop = window.stop
        wholes.add(whole)
        residuals += found
    if len(wholes) != 1 or value.shape[dim] != stop or str(value.shape) != str(_shape_of(*wholes)):
        return None
    return wholes.pop(), residuals


def _shape_of(node: fx.Node) -> object:
    tensor = tensor_of(node)
    return None if tensor is None else tensor.shape


def to_add(node: fx.Node, window: Window | None, within: Container[fx.Node] | None) -> tuple[fx.Node, Window | None]:
    """Walk up through views, casts, cuts and the concatenations that the cuts undo, and no further than `within`."""
    while True:
        below = node
        # Views may move the dimension a window is of.
        node = strip_stream(node, within) if window is None else strip_values(node, within)
        if within is not None and node not in within:
            return node, window
        piece = piece_of(node)
        if piece is not None and window is None:
            whole, dim, start, stop = piece
            node, window = whole, Window(dim, start, stop)
        elif node.target is aten.cat.default and window is not None:
            part = _part_of_cat(node, window)
            if part is None:
                return node, window
            node, window = part, None
        if node is below:
            return node, window


def _part_of_cat(node: fx.Node, window: Window) -> fx.Node | None:
    """The operand of a concatenation that a window shows exactly."""
    dim = node.args[1] if len(node.args) > 1 else node.kwargs.get("dim", 0)
    value = tensor_of(node)
    if value is None or not isinstance(dim, int) or dim % value.ndim != window.dim:
        return None
    start = 0
    for operand in node.args[0]:  # type: ignore[union-attr]
        tensor = tensor_of(operand)
        if tensor is None or not isinstance(tensor.shape[window.dim], int):
            return None
        stop = start + tensor.shape[window.dim]
        if (start, stop) == (window.start, window.stop):
            return operand if isinstance(operand, fx.Node) else None
        start = stop
    return None


def _step_up(add: fx.Node, block: BlockGraph) -> tuple[fx.Node, Residual | None] | None:
    """Return the stream above an add, and the residual the add is; None when no operand can be shown to be the stream.

    An operand is the stream if the other one, the branch, is computed from it, or from a value the stream had further
    up (branches in parallel: `(x + a(x)) + b(x)`); or if the other one does not depend on the sample at all.
    """
    left, right = add.args[:2]
    if add.kwargs.get("alpha", 1) != 1 or not isinstance(left, fx.Node):
        return None
    if not isinstance(right, fx.Node):
        return left, None
    orders = [order for order in ((left, right), (right, left)) if _has_rank(order[0], add)]
    for is_deep in (False, True):
        for spine, branch in orders:
            for root in _values_above(spine, block) if is_deep else [strip_stream(spine, block.nodes)]:
                if root is not strip_stream(branch, block.nodes) and block.depends(branch, root):
                    return spine, _residual(add, spine, branch, root, block)
    for stream, other in orders:
        if block.moves(stream) and not block.moves(other):
            return stream, None
    return None


def _values_above(node: fx.Node, block: BlockGraph) -> Iterator[fx.Node]:
    """The values a stream had on its way to `node`, from last to first."""
    while True:
        node = strip_stream(node, block.nodes)
        yield node
        step = _step_up(node, block) if node in block.nodes and node.target in _ADDS else None
        if step is None:
            return
        node, _ = step


def _residual(add: fx.Node, spine: fx.Node, branch: fx.Node, root: fx.Node, block: BlockGraph) -> Residual | None:
    """A residual is worth its name if its branch holds a matrix product or an attention of its own."""
    stream = strip_stream(spine, block.nodes)
    own = {node for node in block.cone(branch) | {branch} if node in block.nodes} - block.cone(stream) - {stream}
    return Residual(add, spine, branch, root) if is_heavy(own) else None


def _has_rank(node: fx.Node, like: fx.Node) -> bool:
    have, want = tensor_of(node), tensor_of(like)
    return have is not None and want is not None and have.ndim == want.ndim


def block_streams(block: BlockGraph) -> list[Stream]:
    """Every token stream of a block, in the order of its outputs."""
    return [follow(output, None, block) for output in block.outputs]
