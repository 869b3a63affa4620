"""Drop calls that return what they were given."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, fx

from fouriercache.passes.base import Pass
from fouriercache.passes.edit import replace_uses
from fouriercache.passes.match import CASTS, shared_with, written
from fouriercache.program import Program, tensor_of

aten = torch.ops.aten
_ASSERTS = {aten._assert_tensor_metadata.default, aten._assert_async.msg, aten.sym_constrain_range_for_size.default}
_DROPOUTS = {aten.dropout.default, aten.feature_dropout.default, aten.alpha_dropout.default}


@dataclass(frozen=True)
class RemoveNoops(Pass):
    """Replace calls that change nothing by what they were given.

    Export leaves many: they cost a launch each and cut patterns in two.

    Before::

        main(%0: f32[2,8])
          %1: f32[2,8] = dropout.default(%0, 0.1, False)
          %2: f32[2,8] = mul.Tensor(%1, 1)
          %3: f32[2,8] = slice.Tensor(%2, 0, 0, 9223372036854775807)
          %4: f32[2,8] = exp.default(%3)
          return [%4]

    After::

        main(%0: f32[2,8])
          %1: f32[2,8] = exp.default(%0)
          return [%1]

    Removes: 1. metadata asserts. 2. casts to the dtype and device a value has. 3. dropout outside training or with
    probability 0. 4. slices of the whole. 5. multiplication and division by 1 that keep the dtype. 6. copies with the
    same strides; where export decomposes, dropout that is off becomes one.

    Requires: nothing.
    Keeps: 1. a cast that changes dtype or device, or that asks for a copy.
           2. dropout that is on.
           3. a slice that cuts or steps.
           4. a call whose removal would return a graph input, a weight or another result, or a view of one.
           5. multiplication and division by 1 that change the dtype.
           6. a call that changes strides: what reads it may need them as they are.
           7. a copy in a graph that writes to its values.
    Error: exact.
    """

    def rewrite(self, program: Program) -> int:
        count = 0
        is_written = bool(written(program))
        returned = set().union(*map(shared_with, program.results))
        for node in list(program.calls()):
            if node.target in _ASSERTS and not node.users:
                program.graph.erase_node(node)
                count += 1
                continue
            source = _unchanged(node)
            if source is None or (node.target is aten.clone.default and is_written):
                continue
            if node in returned:
                memory = shared_with(source)
                is_copy = source not in shared_with(node)
                if any(shown.op in ("placeholder", "get_attr") for shown in memory) or (is_copy and memory & returned):
                    continue
                returned |= memory
            replace_uses(node, source)
            program.graph.erase_node(node)
            count += 1
        return count


def _unchanged(node: fx.Node) -> fx.Node | None:
    """Return the value that `node` merely repeats, or None."""
    source = node.args[0] if node.args else None
    if not isinstance(source, fx.Node):
        return None
    have, want = tensor_of(source), tensor_of(node)
    if have is None or want is None or not _same_type(have, want):
        return None
    if node.target is not aten.slice.Tensor and not _same_layout(have, want):
        return None
    if node.target in CASTS:
        copies = any(argument is True for argument in (*node.args[1:], node.kwargs.get("copy")))
        return None if copies and node.target is not aten._to_copy.default else source
    if node.target in _DROPOUTS:
        return source if node.args[2] is False or node.args[1] == 0 else None
    if node.target is aten.slice.Tensor:
        return source if _is_whole(node) else None
    if node.target is aten.clone.default:
        return source
    if node.target in (aten.mul.Tensor, aten.div.Tensor):
        return source if len(node.args) == 2 and type(node.args[1]) in (int, float) and node.args[1] == 1 else None
    return None


def _same_type(a: Tensor, b: Tensor) -> bool:
    return a.dtype == b.dtype and a.device == b.device and a.ndim == b.ndim


def _same_layout(a: Tensor, b: Tensor) -> bool:
    return [*map(str, (*a.shape, *a.stride()))] == [*map(str, (*b.shape, *b.stride()))]


def _is_whole(node: fx.Node) -> bool:
    source = node.args[0]
    have = tensor_of(source)
    given = [*node.args[1:], *[None] * 4][:4]
    dim, start, stop, step = given
    if have is None or start not in (None, 0) or step not in (None, 1) or node.kwargs:
        return False
    if stop is None or (isinstance(stop, int) and stop >= 2**62):
        return True
    size: object = have.shape[dim if isinstance(dim, int) else 0]
    return isinstance(size, int) and isinstance(stop, int) and stop >= size
