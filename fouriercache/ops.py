"""The package's graph nodes: custom operators with an eager body and a fake body each.

They are what a canonical program is written in. Specialised programs do not contain them: a pass replaces them by
plain ATen, so that no backend needs to know them.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from fouriercache.spectral import transform

_NAMESPACE = "fouriercache"

_library = torch.library.Library(_NAMESPACE, "DEF")
_library.define("cache_lookup(Tensor[] slots) -> Tensor", tags=[torch.Tag.pt2_compliant_tag])
_library.define("predict(Tensor history, Tensor coefficients) -> Tensor", tags=[torch.Tag.pt2_compliant_tag])
for _name in ("fft_compress", "fft_expand"):
    _library.define(
        f"{_name}(Tensor tokens, Tensor[] matrices, int start) -> Tensor", tags=[torch.Tag.pt2_compliant_tag]
    )
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

    Every linear predictor of the field has this form: the method is data.

    Args:
        history: [K, shape], newest first. coefficients: float32, [K]; or [M, K], a row for each of the M entries of
            the shape's last dimension but one: the spatial frequencies of a history of coefficients.
    """
    wide = torch.promote_types(history.dtype, torch.float32)
    scalars, values = coefficients.to(wide), history.to(wide)
    total: Tensor = (
        torch.tensordot(scalars, values, dims=1)
        if scalars.ndim == 1
        else torch.einsum("k...mc,mk->...mc", values, scalars)
    )
    return total.to(history.dtype)


def _predict_fake(history: Tensor, coefficients: Tensor) -> Tensor:  # noqa: ARG001  # the schema names both
    return history.new_empty(history.shape[1:])


def _fft(tokens: Tensor, matrices: list[Tensor], start: int) -> Tensor:
    """Apply a matrix along each axis of the token grid, accumulated in float32 or wider.

    `fft_compress` is this with the rows of a basis, which gives the lowest coefficients; `fft_expand` with its columns,
    which gives the values that have those coefficients.

    Args:
        tokens: [..., tokens, channels]; the grid's tokens, or their coefficients, from `start` on, in row-major order.
            What stands before and behind them stays as it is.
        matrices: [k_i, n_i] for each axis of the grid.

    Returns:
        The same with k_1 * k_2 * ... entries in place of n_1 * n_2 * ..., in the dtype of `tokens`.
    """
    wide = torch.promote_types(tokens.dtype, torch.float32)
    grid = math.prod(matrix.shape[1] for matrix in matrices)
    before, inside, behind = tokens.tensor_split([start, start + grid], dim=-2)
    found = transform(inside.to(wide), [matrix.to(wide) for matrix in matrices]).to(tokens.dtype)
    return torch.cat([before, found, behind], dim=-2)


def _fft_fake(tokens: Tensor, matrices: list[Tensor], start: int) -> Tensor:  # noqa: ARG001  # the schema names it
    change = math.prod(m.shape[0] for m in matrices) - math.prod(m.shape[1] for m in matrices)
    return tokens.new_empty(*tokens.shape[:-2], tokens.shape[-2] + change, tokens.shape[-1])


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
_register("fft_compress", _fft, _fft_fake)
_register("fft_expand", _fft, _fft_fake)
_register("select", _select, _select)
_register("gather_tokens", gather_rows, gather_rows)
_register("scatter_tokens", scatter_rows, scatter_rows)

cache_lookup = torch.ops.fouriercache.cache_lookup.default
predict = torch.ops.fouriercache.predict.default
fft_compress = torch.ops.fouriercache.fft_compress.default
fft_expand = torch.ops.fouriercache.fft_expand.default
select = torch.ops.fouriercache.select.default
gather_tokens = torch.ops.fouriercache.gather_tokens.default
scatter_tokens = torch.ops.fouriercache.scatter_tokens.default
