"""The forms a feature can have in the cache, and the calls that lead there and back."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, fx

from fouriercache import ops
from fouriercache.codecs import Storage
from fouriercache.passes.edit import insert_after, insert_before
from fouriercache.passes.placement import Transform, fake_of, place_on_grid
from fouriercache.program import NoMatch, Program, Site

aten = torch.ops.aten


@dataclass(frozen=True)
class Form:
    """One form: coefficients of the grid that begins at token `start`, a smaller dtype, both, or (default) neither."""

    transform: Transform | None = None
    start: int = 0
    dtype: torch.dtype | None = None

    def column(self, program: Program, site: Site) -> str:
        """The name of what is kept of a site in this form: `blocks.0.mlp.dct_8_8.int8`."""
        words = [site.name]
        if self.transform is not None:
            words.append("_".join([self.transform.basis, *map(str, self.transform.box(program))]))
        if self.dtype is not None:
            words.append(str(self.dtype).removeprefix("torch."))
        return ".".join(words)


@dataclass(frozen=True)
class _Forms:
    """The form of a site's features by age, newest first, and what could not be had of the storage, with the reason."""

    ages: tuple[Form, ...]
    refused: tuple[NoMatch, ...] = ()


def forms_of(program: Program, site: Site, storage: Storage, *, is_banded: bool) -> _Forms:
    """Say how each feature of a site is kept. `is_banded`: they are predicted as coefficients, so all are kept so."""
    refused = []
    place = place_on_grid(program, site) if storage.basis is not None else 0
    if isinstance(place, NoMatch):
        refused.append(place)
    has_basis = storage.basis is not None and not isinstance(place, NoMatch)
    start = place if has_basis and isinstance(place, int) else 0
    dtype: torch.dtype | None = getattr(torch, storage.dtype) if storage.dtype is not None else None
    if dtype is not None and dtype.itemsize >= site.dtype.itemsize:
        refused.append(NoMatch(f"{site.name}: {site.dtype} is no wider than {dtype}", site.value))
        dtype = None
    encoded = Form(Transform(storage.basis, storage.keep) if has_basis and storage.basis else None, start, dtype)
    whole = Form(Transform(storage.basis), start) if is_banded and storage.basis else Form()
    newest = whole if storage.slots == "older" else encoded
    return _Forms((newest, *[encoded] * (program.history - 1)), tuple(refused))


def insert_encoded(program: Program, site: Site, value: fx.Node, form: Form) -> list[tuple[str, fx.Node]]:
    """Encode a site's new value; return each tensor to keep with its column's name: the scales of int8 come second.

    Args:
        value: [batch, tokens, channels] for coefficients, else of any shape whose last dimension is that of channels.
    """
    column, node = form.column(program, site), value
    if form.transform is not None:
        matrices = form.transform.forward(program, fake_of(value))
        node = insert_after(node, ops.fft_compress, node, matrices, form.start)
    if form.dtype is None:
        return [(column, node)]
    if form.dtype != torch.int8:
        return [(column, insert_after(node, aten.to.dtype, node, form.dtype))]
    wide = torch.promote_types(site.dtype, torch.float32)
    if wide != site.dtype:
        node = insert_after(node, aten.to.dtype, node, wide)
    sizes = insert_after(node, aten.abs.default, node)
    largest = insert_after(sizes, aten.amax.default, sizes, [-1], True)
    scale = insert_after(largest, aten.mul.Tensor, largest, 1 / 127)
    # A token of zeros has a scale of 0.
    divisor = insert_after(scale, aten.clamp_min.default, scale, torch.finfo(wide).tiny)
    ratio = insert_after(divisor, aten.div.Tensor, node, divisor)
    rounded = insert_after(ratio, aten.round.default, ratio)
    whole = insert_after(rounded, aten.to.dtype, rounded, torch.int8)
    return [(column, whole), (f"{column}.scale", scale)]


def insert_decoded(
    program: Program, anchor: fx.Node, parts: list[fx.Node], form: Form, domain: Transform | None, like: Tensor
) -> fx.Node:
    """Decode a slot in front of `anchor`, to coefficients of `domain` or, with None, to the value itself.

    Args:
        parts: the slot's tensors, as `insert_encoded` returned them. like: a fake tensor with the site's dtype.
    """
    node = parts[0]
    if form.dtype == torch.int8:
        node = insert_before(anchor, aten.mul.Tensor, node, parts[1])
    if fake_of(node).dtype != like.dtype:
        node = insert_before(anchor, aten.to.dtype, node, like.dtype)
    if form.transform is None or form.transform == domain:
        return node
    if domain is None:
        matrices = form.transform.inverse(program, like)
    else:
        matrices = form.transform.widening(program, like, domain)
    return insert_before(anchor, ops.fft_expand, node, matrices, form.start)
