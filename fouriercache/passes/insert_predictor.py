"""Predict every site from its history."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import fx

from fouriercache import ops
from fouriercache.errors import PreconditionError
from fouriercache.passes.base import Pass
from fouriercache.passes.edit import insert_after, insert_before, insert_input
from fouriercache.passes.insert_cache import find_lookups
from fouriercache.passes.placement import Transform, fake_of, length_of, place_on_grid, require_grid
from fouriercache.program import NoMatch, Program, Site
from fouriercache.spectral import Basis

aten = torch.ops.aten


@dataclass(frozen=True)
class InsertPredictor(Pass):
    """Add one `predict(history, coefficients)` node for each site; the coefficients are one new input.

    Every linear predictor is data: the graph is the same for all of them. Their coefficients are
    f32[K]. Scalars for each site (`per_site`) or each spatial band (`edges`) are f32[sites or 1, bands, K]. With bands,
    a history is predicted as coefficients on the token grid, each by the row of its band: `edges` are shares of the
    largest radial frequency, and an edge belongs to the band below it.

    Before::

        main(%0: f32[2,8] x, %1: f32[2,8] slot_0_0 (slot))
          %2: f32[2,8] = add.Tensor(%0, 1)
          %3: f32[1,2,8] = fouriercache.cache_lookup([%1])
          return [%2, %2]

    After::

        main(%0: f32[2,8] x, %1: f32[2,8] slot_0_0 (slot), %2: f32[1] coefficients)
          %3: f32[2,8] = add.Tensor(%0, 1)
          %4: f32[1,2,8] = fouriercache.cache_lookup([%1])
          %5: f32[2,8] = fouriercache.predict(%4, %2)
          return [%3, %3]

    Requires: `InsertCache`; with bands, a token grid with a site on it.
    Keeps: 1. a site that has a predictor.
           2. with bands, a site that is not on the grid: each of its tokens is predicted as its own mean is, by the
              row of the lowest band.
    Error: exact.
    """

    edges: tuple[float, ...] = ()
    per_site: bool = False
    basis: Basis = "dct"

    def requires(self, program: Program) -> None:
        if not program.history:
            raise PreconditionError(
                "InsertPredictor needs slots to predict from, found none.\n  Run InsertCache first."
            )
        if self.edges:
            require_grid(program, "a predictor with spatial bands")

    def rewrite(self, program: Program) -> int:
        if program.inputs_of("coefficients"):
            return 0
        lookups = find_lookups(program)
        shape = (len(program.sites) if self.per_site else 1, len(self.edges) + 1, program.history)
        given = shape if self.per_site or self.edges else shape[2:]
        like = fake_of(lookups[0]).new_empty(given, dtype=torch.float32)
        insert_input(program, "coefficients", like, "coefficients")
        nodes = program.named()
        rows: dict[object, fx.Node] = {}
        for position, (site, lookup) in enumerate(zip(program.sites, lookups, strict=True)):
            predicted = self._predict(program, position, site, lookup, rows)
            if site.is_residual:
                insert_after(predicted, aten.add.Tensor, nodes[site.spine], predicted)
        return len(program.sites)

    def _predict(
        self, program: Program, position: int, site: Site, lookup: fx.Node, rows: dict[object, fx.Node]
    ) -> fx.Node:
        start = place_on_grid(program, site) if self.edges else NoMatch("one band")
        if isinstance(start, NoMatch):
            if self.edges:
                self.refuse(program, start)
            return insert_after(lookup, ops.predict, lookup, self._row(program, position, rows))
        transform = Transform(self.basis)
        slots: list[fx.Node] = list(lookup.args[0])  # type: ignore[arg-type]
        like = fake_of(slots[0])
        bands = transform.bands(program, like, self.edges, start, length_of(site))
        there, back = transform.forward(program, like), transform.inverse(program, like)
        spectra = [insert_before(lookup, ops.fft_compress, slot, there, start) for slot in slots]
        history = insert_before(lookup, ops.cache_lookup, spectra)
        program.graph.erase_node(lookup)
        predicted = insert_after(history, ops.predict, history, self._row(program, position, rows, bands))
        return insert_after(predicted, ops.fft_expand, predicted, back, start)

    def _row(
        self, program: Program, position: int, rows: dict[object, fx.Node], bands: fx.Node | None = None
    ) -> fx.Node:
        """The coefficients of a site, f32[K]; with the band of each of its M entries, f32[M, K]."""
        (coefficients,) = program.inputs_of("coefficients")
        if not self.per_site and not self.edges:
            return coefficients
        key = (position if self.per_site else 0, bands)
        if key not in rows:
            # Ahead of everything: what is built from coefficients alone can be shared by all sites.
            first = next(program.calls())
            row = insert_before(first, aten.select.int, coefficients, 0, key[0])
            if bands is None:
                rows[key] = insert_before(first, aten.select.int, row, 0, 0)
            else:
                rows[key] = insert_before(first, aten.index_select.default, row, 0, bands)
        return rows[key]
