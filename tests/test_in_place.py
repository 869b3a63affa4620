"""Writes into a new tensor: what is plainly a scatter becomes one, the rest is left for torch, and both are right."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.export import Dim

from fouriercache.in_place import mutates, replace_writes

X = torch.randn(3, 4, 6, generator=torch.Generator().manual_seed(0))


def rotary(x: Tensor) -> Tensor:
    out = torch.empty_like(x)
    out[..., 0::2] = x[..., 0::2] - x[..., 1::2]
    out[..., 1::2] = x[..., 0::2] + x[..., 1::2]
    return out.type_as(x) * 2


def rows(x: Tensor) -> Tensor:
    out = torch.zeros_like(x)
    out[:, 1] = x[:, 0]
    out[:, -1] = x[:, 2]
    return out


def overlapping(x: Tensor) -> tuple[Tensor, Tensor]:
    out = torch.ones_like(x)
    out[:, 1:] = x[:, 1:]
    out[:, :2] = x[:, 2:]
    return out + 1, out


def one_into_the_other(x: Tensor) -> Tensor:
    out, first = torch.zeros_like(x), torch.zeros_like(x[:, :2])
    first[..., 1:] = x[:, 2:, 1:]
    out[:, :2] = first
    return out


def read_between(x: Tensor) -> Tensor:
    out = torch.zeros_like(x)
    out[:, :2] = x[:, 2:]
    first = out.sum()
    out[:, 2:] = x[:, :2]
    return out + first


def viewed_before(x: Tensor) -> Tensor:
    out = torch.zeros_like(x)
    half = out[:, :2]
    out[:, :2] = x[:, 2:]
    return out.sum() + half


def of_another_dtype(x: Tensor) -> Tensor:
    out = torch.zeros_like(x)
    out[:, :2] = x[:, 2:].double()
    return out


def broadcast(x: Tensor) -> Tensor:
    out = torch.zeros_like(x)
    out[:, :2] = x[:, :1]
    return out


def of_an_own_product(x: Tensor) -> Tensor:
    out = x * 1
    out[:, :2] = x[:, 2:]
    return out


def added(x: Tensor) -> Tensor:
    out = torch.zeros_like(x)
    out.add_(x)
    return out


class Call(nn.Module):
    def __init__(self, function: Callable[[Tensor], Tensor]):
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


@pytest.mark.parametrize(
    ("function", "is_replaced"),
    [
        (rotary, True),
        (rows, True),
        (overlapping, True),
        (broadcast, True),
        (one_into_the_other, True),
        (of_another_dtype, True),
    ]
    + [(f, False) for f in (read_between, viewed_before, of_an_own_product, added)],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_writes_are_replaced_where_that_is_plainly_the_same(function: Callable[[Tensor], Tensor], is_replaced: bool):
    exported = torch.export.export(Call(function), (X,), dynamic_shapes=({0: Dim.AUTO},), strict=False)
    before = len(exported.graph.nodes)
    assert any(mutates(node) for node in exported.graph.nodes)
    assert replace_writes(exported.graph) == is_replaced
    assert any(mutates(node) for node in exported.graph.nodes) != is_replaced
    assert len(exported.graph.nodes) <= before
    exported.graph.lint()
    exported.graph_module.recompile()
    for x in (X, torch.cat([X, X])):
        torch.testing.assert_close(exported.module()(x), function(x), rtol=0, atol=0)
