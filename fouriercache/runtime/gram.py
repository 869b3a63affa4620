"""Inner products of the kept features, for predictors that are fitted to them while the trajectory runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor


def inner_products(
    newest: Mapping[str, Tensor], ring: Mapping[str, Sequence[Tensor]], names: Sequence[str | None]
) -> tuple[tuple[float, ...], ...]:
    """Return those of the newest features with themselves and with each older one, [sites][1 + older ones].

    A feature's products are made in float32, or float64 if it is that wide, and summed in float64, over everything in
    it: batch, tokens and channels. All of them are read back at once, which waits for the device.

    Args:
        newest: what the computed step keeps, by name. ring: what older ones kept, by name, newest first.
        names: of what is kept of each site, in their order; None for a site of which nothing is kept, because nothing
            reads it: its products are 0.
    """
    found: dict[str | None, list[Tensor]] = {
        name: [_product(newest[name], value) for value in (newest[name], *ring.get(name, ()))]
        for name in names
        if name is not None
    }
    length = max(map(len, found.values()))
    rows = torch.stack([torch.stack(row) for row in found.values()]).tolist()
    products = dict(zip(found, rows, strict=True))
    return tuple(tuple(products.get(name, [0.0] * length)) for name in names)


def _product(left: Tensor, right: Tensor) -> Tensor:
    wide = torch.promote_types(left.dtype, torch.float32)
    return (left.to(wide) * right.to(wide)).sum(dtype=torch.float64)
