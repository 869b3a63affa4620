"""Proof that a branch is computed token by token, from the graph. Nothing here edits."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import fx

from fouriercache.passes.match import CASTS, ancestors, descendants, strip_values
from fouriercache.program import NoMatch, Program, Site, sizes_of, tensor_of

aten = torch.ops.aten


@dataclass(frozen=True)
class TokenRegion:
    """The calls from what enters a branch to its value, each of which acts on every token alone.

    Attributes:
        entry: what enters, [B, N, C]. nodes: the calls, in order; the last is the branch's value.
        per_token: values from outside that have a row of their own for each token, [B, N, ...].
    """

    entry: fx.Node
    nodes: tuple[fx.Node, ...]
    per_token: tuple[fx.Node, ...]

    @property
    def tokens(self) -> int:
        """N."""
        count = sizes_of(_tensor(self.entry))[1]
        assert isinstance(count, int)
        return count


def find_region(program: Program, site: Site) -> TokenRegion | NoMatch:
    """Return the region of a site whose every call acts along the channels alone, or why there is none.

    A call is accepted if what it does to one token cannot depend on another: elementwise calls, linears and norms of
    the last dimension, pieces of it, casts. Every value in the region must be [B, N, ...] with the tokens at dimension
    1, and what comes from outside must be the same for all tokens, or have a row for each.
    """
    if site.kind != "mlp":
        return NoMatch(f"{site.name}: a site of kind {site.kind} mixes tokens", site.value)
    nodes = program.named()
    value, entry = nodes[site.value], strip_values(nodes[site.spine])
    lead = sizes_of(_tensor(entry))[:2]
    if _tensor(entry).ndim != 3 or not isinstance(lead[1], int) or lead != site.shape[:2]:
        return NoMatch(f"{site.name}: {entry.name} and the site's value have no equal [batch, tokens]", entry.name)
    inside = (descendants([entry]) & (ancestors(value) | {value})) - {entry}
    region = [node for node in program.calls() if node in inside]
    per_token: dict[fx.Node, None] = {}
    for node in region:
        reason = _mixes(node, inside | {entry}, lead, per_token)
        if reason is not None:
            return NoMatch(f"{site.name}: {reason}", node.name)
    return TokenRegion(entry, tuple(region), tuple(per_token))


def _mixes(
    node: fx.Node, inside: set[fx.Node], lead: tuple[int | str, ...], per_token: dict[fx.Node, None]
) -> str | None:
    """Say why a call may mix tokens; None if it cannot. Adds what it reads token by token from outside."""
    name = getattr(node.target, "__name__", str(node.target))
    value = tensor_of(node)
    if value is not None and (value.ndim < 3 or sizes_of(value)[:2] != lead):
        return f"{name} gives [{', '.join(map(str, sizes_of(value)))}], which has no token at dimension 1"
    if node.target in _RULES:
        return None if _RULES[node.target](node, inside) else f"{name} acts along more than the channels"
    if not isinstance(node.target, torch._ops.OpOverload) or torch.Tag.pointwise not in node.target.tags:
        return f"{name} is not known to act on each token alone"
    assert value is not None
    for operand in node.all_input_nodes:
        tensor = tensor_of(operand)
        if tensor is None:
            return f"{name} reads {operand.name}, which is no tensor"
        place = 1 - (value.ndim - tensor.ndim)  # where broadcasting puts the tokens' dimension
        size = sizes_of(tensor)[place] if place >= 0 else 1
        if operand in inside:
            if place != 1:
                return f"{name} broadcasts tokens to another dimension"
        elif size == lead[1] and place == 1 and size != 1:
            if sizes_of(tensor)[0] != lead[0]:
                return f"{name} reads {operand.name}, whose rows are not those of the batch"
            per_token[operand] = None
        elif size != 1:
            return f"{name} reads {operand.name}, which has tokens of its own"
    return None


_Rule = Callable[[fx.Node, set[fx.Node]], bool]


def _first_alone(node: fx.Node, inside: set[fx.Node]) -> bool:
    """Whether the first argument is the only one from the region."""
    first, *others = node.all_input_nodes
    return node.args[0] is first and first in inside and not any(other in inside for other in others)


def _linear(node: fx.Node, inside: set[fx.Node]) -> bool:
    return _first_alone(node, inside)


def _matmul(node: fx.Node, inside: set[fx.Node]) -> bool:
    weight = tensor_of(node.args[1])
    return _first_alone(node, inside) and weight is not None and weight.ndim == 2


def _norm(node: fx.Node, inside: set[fx.Node]) -> bool:
    shape = node.args[1]
    return _first_alone(node, inside) and isinstance(shape, Sequence) and len(shape) == 1


def _along(position: int, default: object = None) -> _Rule:
    """A call with its dimension, or dimensions, at a position of its arguments: none may be the batch or the tokens."""

    def rule(node: fx.Node, inside: set[fx.Node]) -> bool:
        source = node.args[0][0] if isinstance(node.args[0], Sequence) else node.args[0]
        value = tensor_of(source)
        given = node.args[position] if len(node.args) > position else node.kwargs.get("dim", default)
        dims = list(given) if isinstance(given, Sequence) else [given]
        if value is None or not dims or not all(isinstance(dim, int) for dim in dims):
            return False
        return all(source in inside for source in node.all_input_nodes) and all(
            dim % value.ndim >= 2 for dim in dims if isinstance(dim, int)
        )

    return rule


def _any_view(node: fx.Node, inside: set[fx.Node]) -> bool:
    return node.args[0] in inside


_RULES: dict[object, _Rule] = {
    aten.linear.default: _linear,
    aten.matmul.default: _matmul,
    aten.layer_norm.default: _norm,
    aten.rms_norm.default: _norm,
    aten.mean.dim: _along(1),
    aten.sum.dim_IntList: _along(1),
    aten.var.correction: _along(1),
    aten.softmax.int: _along(1),
    aten.cat.default: _along(1, 0),
    aten.chunk.default: _along(2, 0),
    aten.split.Tensor: _along(2, 0),
    aten.split_with_sizes.default: _along(2, 0),
    aten.slice.Tensor: _along(1, 0),
    aten.unflatten.int: _along(1),
    aten.flatten.using_ints: _along(1, 0),
    operator.getitem: _any_view,
    aten.contiguous.default: _any_view,
    aten.clone.default: _any_view,
    aten.alias.default: _any_view,
    aten.detach.default: _any_view,
    **dict.fromkeys(CASTS, _any_view),
}
"""Calls that act along the channels alone, and what must hold of their arguments for it."""


def _tensor(node: fx.Node) -> torch.Tensor:
    value = tensor_of(node)
    assert value is not None
    return value
