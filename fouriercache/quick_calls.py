"""The same operators by a shorter way: tensors' methods and PyTorch's functions in place of operator overloads.

An overload is called through the operator's schema, a method through a binding that was made for it, which takes less
of the host's time: in a graph of small calls there is little else.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import fx

aten: Any = torch.ops.aten
_nn: Any = torch._C._nn

METHODS: Mapping[Any, str] = {
    aten.add.Tensor: "add",
    aten.add_.Tensor: "add_",
    aten.addcmul.default: "addcmul",
    aten.addcmul_.default: "addcmul_",
    aten.chunk.default: "chunk",
    aten.clone.default: "clone",
    aten.div.Tensor: "div",
    aten.expand.default: "expand",
    aten.flatten.using_ints: "flatten",
    aten.mul.Tensor: "mul",
    aten.mul_.Tensor: "mul_",
    aten.permute.default: "permute",
    aten.reshape.default: "reshape",
    aten.select.int: "select",
    aten.split.Tensor: "split",
    aten.sub.Tensor: "sub",
    aten.sub_.Tensor: "sub_",
    aten.to.dtype: "to",
    aten.transpose.int: "transpose",
    aten.unsqueeze.default: "unsqueeze",
    aten.view.default: "view",
}
"""Operators that are methods of their first argument, with the same arguments behind it."""

FUNCTIONS: Mapping[Any, Callable[..., Any]] = {
    aten.addmm.default: torch.addmm,
    aten.addmm.out: torch.addmm,
    aten.baddbmm.default: torch.baddbmm,
    aten.bmm.default: torch.bmm,
    aten.cat.default: torch.cat,
    aten.gelu.default: _nn.gelu,
    aten.gelu_.default: _nn.gelu_,
    aten.layer_norm.default: torch.layer_norm,
    aten.linear.default: _nn.linear,
    aten.scaled_dot_product_attention.default: _nn.scaled_dot_product_attention,
    aten.silu.default: _nn.silu,
    aten.silu_.default: _nn.silu_,
}
"""Operators that are functions of the same arguments."""


def shorten(graph: fx.Graph) -> None:
    """Let the graph's calls go the shorter way where there is one. What they compute is the same to the bit."""
    for target, function in FUNCTIONS.items():
        for node in graph.find_nodes(op="call_function", target=target):
            node.target = function
    for target, method in METHODS.items():
        for node in graph.find_nodes(op="call_function", target=target):
            if node.args and isinstance(node.args[0], fx.Node):
                node.op, node.target = "call_method", method
