"""Which rows of a linear's result are read, and through which views. Nothing here edits."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from operator import getitem

import torch
from torch import fx

from fouriercache.passes.match import piece_of
from fouriercache.program import NoMatch, tensor_of

aten = torch.ops.aten

_SPLITS = {aten.chunk.default, aten.split.Tensor, aten.split_with_sizes.default, aten.unbind.int}
_RESHAPES = {
    aten.view.default, aten.reshape.default, aten._unsafe_view.default, aten.unflatten.int, aten.unsqueeze.default,
    aten.squeeze.dim,
}  # fmt: skip


@dataclass(frozen=True)
class Rows:
    """The rows `start` to `stop` of a linear's weight: those entries of the last dimension of its result."""

    start: int
    stop: int

    def cut(self, other: Rows) -> Rows:
        """Return what both hold."""
        return Rows(max(self.start, other.start), min(self.stop, other.stop))


@dataclass(frozen=True)
class Shown:
    """A node that shows rows of a linear's result.

    They are its last dimension, or its last two, [groups, `grain`].
    """

    node: fx.Node
    rows: Rows
    grain: int | None = None

    def splits_evenly(self, rows: Rows) -> bool:
        """Whether `rows` begin and end between two groups of `self`."""
        return (
            self.grain is None
            or (rows.start - self.rows.start) % self.grain == (rows.stop - rows.start) % self.grain == 0
        )


Reading = tuple[Shown, ...]
"""The way from a linear down to a node whose rows are read; the linear itself stands first."""


def read_rows(linear: fx.Node) -> list[Reading] | NoMatch:
    """Return every piece of `linear` that is read; none when it is read whole, as most are, or not at all.

    Returns:
        `NoMatch` when there are pieces, and something reads the whole beside them.
    """
    value = tensor_of(linear)
    if value is None or not isinstance(value.shape[-1], int):
        return []
    whole = Shown(linear, Rows(0, value.shape[-1]))
    found = _pieces(whole)
    if isinstance(found, list):
        return [(whole, *below) for below in found]
    if any(shown.rows != whole.rows for shown in _shown_by(whole)):
        return NoMatch(f"{found.name} reads all of {linear.name}, beside those that read pieces", linear.name)
    return []


def merge_rows(rows: Iterable[Rows]) -> list[Rows]:
    """Join what overlaps or lies side by side; the result ascends."""
    merged: list[Rows] = []
    for here in sorted(rows, key=lambda found: found.start):
        if merged and here.start <= merged[-1].stop:
            merged[-1] = Rows(merged[-1].start, max(merged[-1].stop, here.stop))
        else:
            merged.append(here)
    return merged


def _pieces(here: Shown) -> list[Reading] | fx.Node:
    """Every way from `here` down to a piece that is read, or the node that reads all of `here`."""
    found: list[Reading] = []
    for user in here.node.users:
        for part in user.users if user.target in _SPLITS else (user,):
            shown = _show(part, here)
            if shown is None:
                return user
            if not part.users:
                continue
            below = _pieces(shown)
            if isinstance(below, list):
                found += [(shown, *rest) for rest in below]
            elif shown.rows == here.rows:
                return below
            else:
                found.append((shown,))
    return found


def _shown_by(here: Shown) -> Iterable[Shown]:
    """Every view and piece below `here`."""
    for user in here.node.users:
        for part in user.users if user.target in _SPLITS else (user,):
            shown = _show(part, here)
            if shown is not None:
                yield shown
                yield from _shown_by(shown)


def _show(part: fx.Node, here: Shown) -> Shown | None:
    """Which rows `part` shows of those of `here`; None when it is neither view nor piece of them."""
    have, want = tensor_of(here.node), tensor_of(part)
    if have is None or want is None:
        return None
    if part.target in _RESHAPES:
        return _reshape(part, here, list(have.shape), list(want.shape))
    grain = here.grain or 1
    dim = have.ndim - (1 if here.grain is None else 2)
    found = piece_of(part)
    if found is not None and found[1] == dim:
        start, stop = (here.rows.start + bound * grain for bound in found[2:])
        return Shown(part, Rows(start, stop), here.grain) if start < stop else None
    index = _selected(part, dim)
    if index is not None and here.grain is not None:
        start = here.rows.start + index % have.shape[dim] * grain
        return Shown(part, Rows(start, start + grain))
    return None


def _reshape(part: fx.Node, here: Shown, have: list[int], want: list[int]) -> Shown | None:
    # Rows stay in order, so a reshape whose last dimensions hold the same number of them keeps each where it was.
    kept = 1 if here.grain is None else 2
    if want[-kept:] == have[-kept:] and part.target is not aten.unflatten.int:
        return Shown(part, here.rows, here.grain)
    known = len(want) > 1 and all(isinstance(size, int) for size in want[-2:])
    if here.grain is None and known and want[-2] * want[-1] == have[-1]:
        return Shown(part, here.rows, want[-1])
    return None


def _selected(part: fx.Node, dim: int) -> int | None:
    """The index that `part` selects of dimension `dim` by `select` or `unbind`."""
    if part.target is aten.select.int:
        whole, of, index = part.args
    elif part.target is getitem and isinstance(part.args[0], fx.Node) and part.args[0].target is aten.unbind.int:
        (split, index) = part.args
        whole, of = (*split.args, 0)[:2]  # type: ignore[union-attr]
    else:
        return None
    value = tensor_of(whole)
    if value is None or not (isinstance(of, int) and isinstance(index, int)):
        return None
    return index if of % value.ndim == dim else None
