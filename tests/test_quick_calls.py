"""Methods and functions in place of operator overloads: the same values, for every entry."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import fx

from fouriercache.quick_calls import FUNCTIONS, METHODS, shorten

aten: Any = torch.ops.aten
X, Y, Z = torch.randn(3, 2, 4, 6, generator=torch.Generator().manual_seed(0)).unbind()
ROW = torch.randn(6)
ATTENDED = torch.randn(2, 2, 4, 8)

CALLS: dict[Any, tuple[tuple[Any, ...], dict[str, Any]]] = {
    aten.add.Tensor: ((X, Y), {"alpha": 3}),
    aten.add_.Tensor: ((X, Y), {}),
    aten.addcmul.default: ((X, Y, Z), {"value": 2}),
    aten.addcmul_.default: ((X, Y, Z), {}),
    aten.addmm.default: ((X[0], Y[0], torch.eye(6)), {"beta": 2}),
    aten.addmm.out: ((X[0], Y[0], torch.eye(6)), {"out": torch.empty(4, 6)}),
    aten.baddbmm.default: ((X, Y, Z.new_ones(2, 6, 6)), {"alpha": 2}),
    aten.bmm.default: ((X, Y.transpose(1, 2)), {}),
    aten.cat.default: (([X, Y], 1), {}),
    aten.chunk.default: ((X, 2, 2), {}),
    aten.clone.default: ((X.transpose(0, 1),), {"memory_format": torch.contiguous_format}),
    aten.div.Tensor: ((X, Y), {}),
    aten.expand.default: ((ROW, [2, 6]), {}),
    aten.flatten.using_ints: ((X, 1, 2), {}),
    aten.gelu.default: ((X,), {"approximate": "tanh"}),
    aten.gelu_.default: ((X,), {}),
    aten.layer_norm.default: ((X, [6], ROW, ROW, 1e-3, False), {}),
    aten.linear.default: ((X, torch.ones(3, 6), torch.ones(3)), {}),
    aten.mul.Tensor: ((X, 0.3), {}),
    aten.mul_.Tensor: ((X, Y), {}),
    aten.permute.default: ((X, [2, 0, 1]), {}),
    aten.reshape.default: ((X.transpose(0, 1), [-1, 3]), {}),
    aten.scaled_dot_product_attention.default: ((ATTENDED,) * 3, {"scale": 0.5, "is_causal": True}),
    aten.select.int: ((X, 2, -1), {}),
    aten.silu.default: ((X,), {}),
    aten.silu_.default: ((X,), {}),
    aten.split.Tensor: ((X, 2, 1), {}),
    aten.sub.Tensor: ((X, 2), {}),
    aten.sub_.Tensor: ((X, Y), {}),
    aten.to.dtype: ((X, torch.float16), {}),
    aten.transpose.int: ((X, 0, 2), {}),
    aten.unsqueeze.default: ((X, 1), {}),
    aten.view.default: ((X, [2, -1]), {}),
}


def run(target: Any, is_short: bool) -> list[torch.Tensor]:
    """What a graph of this one call gives, for copies of the arguments; whether it was shortened is looked at."""
    leaves, spec = torch.utils._pytree.tree_flatten(CALLS[target])
    graph = fx.Graph()
    given = [graph.placeholder(f"x{i}") for i, leaf in enumerate(leaves) if isinstance(leaf, torch.Tensor)]
    names = iter(given)
    args, kwargs = torch.utils._pytree.tree_unflatten(
        [next(names) if isinstance(leaf, torch.Tensor) else leaf for leaf in leaves], spec
    )
    node = graph.call_function(target, args, kwargs)
    graph.output(node)
    if is_short:
        shorten(graph)
    assert (node.target is not target) == is_short
    values = [leaf.clone(memory_format=torch.preserve_format) for leaf in leaves if isinstance(leaf, torch.Tensor)]
    found = fx.GraphModule(torch.nn.Module(), graph)(*values)
    return [found] if isinstance(found, torch.Tensor) else list(found)


@pytest.mark.parametrize("target", [*METHODS, *FUNCTIONS], ids=str)
def test_the_shorter_way_gives_the_same(target: Any):
    have, want = run(target, is_short=True), run(target, is_short=False)
    assert len(have) == len(want)
    for mine, its in zip(have, want, strict=True):
        assert torch.equal(mine, its)
        assert (mine.dtype, mine.stride()) == (its.dtype, its.stride())
