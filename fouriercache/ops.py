"""The package's graph nodes: custom operators with an eager body and a fake body each.

They are what a canonical program is written in. Specialised programs do not contain them: a pass replaces them by
plain ATen, so that no backend needs to know them.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

_NAMESPACE = "fouriercache"

_library = torch.library.Library(_NAMESPACE, "DEF")
_library.define("cache_lookup(Tensor[] slots) -> Tensor", tags=[torch.Tag.pt2_compliant_tag])
_library.define("predict(Tensor history, Tensor coefficients) -> Tensor", tags=[torch.Tag.pt2_compliant_tag])
_library.define(
    "select(Tensor refresh, Tensor computed, Tensor predicted) -> Tensor", tags=[torch.Tag.pt2_compliant_tag]
)
_library.define("gather_tokens(Tensor values, Tensor index) -> Tensor", tags=[torch.Tag.pt2_compliant_tag])
_library.define(
    "scatter_tokens(Tensor values, Tensor index, Tensor chosen) -> Tensor", tags=[torch.Tag.pt2_compliant_tag]
)


def _cache_lookup(slots: list[Tensor]) -> Tensor:
    """Stack the slots of one site, newest first: K x [shape] -> [K, shape]."""
    return torch.stack(slots)


def _predict(history: Tensor, coefficients: Tensor) -> Tensor:
    """Return `sum_k coefficients[k] * history[k]`, accumulated in float32 or wider.

    Every linear predictor of the field has this form (design.md, section 2): the method is data.

    Args:
        history: [K, shape], newest first. coefficients: [K], float32.
    """
    wide = torch.promote_types(history.dtype, torch.float32)
    total: Tensor = torch.tensordot(coefficients.to(wide), history.to(wide), dims=1)
    return total.to(history.dtype)


def _predict_fake(history: Tensor, coefficients: Tensor) -> Tensor:  # noqa: ARG001  # the schema names both
    return history.new_empty(history.shape[1:])


def _select(refresh: Tensor, computed: Tensor, predicted: Tensor) -> Tensor:
    """Return `computed` where the step refreshes the cache, else `predicted`.

    Args:
        refresh: bool, no dimensions. computed, predicted: equal shapes and dtypes.
    """
    return torch.where(refresh, computed, predicted)


def gather_rows(values: Tensor, index: Tensor) -> Tensor:
    """Return the tokens that `index` names: [B, N, ...], int64[B, k] -> [B, k, ...]. Plain ATen, to trace."""
    return torch.gather(values, 1, _widened(index, values))


def scatter_rows(values: Tensor, index: Tensor, chosen: Tensor) -> Tensor:
    """Return `values`, the tokens that `index` names replaced: [B, N, ...], int64[B, k], [B, k, ...]. Plain ATen."""
    return torch.scatter(values, 1, _widened(index, values), chosen)


def _widened(index: Tensor, values: Tensor) -> Tensor:
    rows, count = index.shape
    return index.view(rows, count, *[1] * (values.ndim - 2)).expand(rows, count, *values.shape[2:])


def _register(name: str, eager: Any, fake: Any) -> None:
    _library.impl(name, eager, "CompositeExplicitAutograd")
    torch.library.register_fake(f"{_NAMESPACE}::{name}", fake, lib=_library)


_register("cache_lookup", _cache_lookup, _cache_lookup)
_register("predict", _predict, _predict_fake)
_register("select", _select, _select)
_register("gather_tokens", gather_rows, gather_rows)
_register("scatter_tokens", scatter_rows, scatter_rows)

cache_lookup = torch.ops.fouriercache.cache_lookup.default
predict = torch.ops.fouriercache.predict.default
select = torch.ops.fouriercache.select.default
gather_tokens = torch.ops.fouriercache.gather_tokens.default
scatter_tokens = torch.ops.fouriercache.scatter_tokens.default
