"""Predict every site from its history."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from fouriercache import ops
from fouriercache.errors import PreconditionError
from fouriercache.passes.base import Pass
from fouriercache.passes.edit import insert_after, insert_input
from fouriercache.passes.insert_cache import find_lookups
from fouriercache.program import Program, tensor_of


@dataclass(frozen=True)
class InsertPredictor(Pass):
    """Add one `predict(history, coefficients)` node for each site; the coefficients are one new input.

    Every linear predictor is data (design.md, section 2): the graph is the same for all of them.

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

    Requires: `InsertCache`.
    Keeps: 1. a site that has a predictor.
    Error: exact.
    """

    def requires(self, program: Program) -> None:
        if not program.history:
            raise PreconditionError(
                "InsertPredictor needs slots to predict from, found none.\n  Run InsertCache first."
            )

    def rewrite(self, program: Program) -> int:
        if program.inputs_of("coefficients"):
            return 0
        lookups = find_lookups(program)
        like = tensor_of(lookups[0])
        assert like is not None
        coefficients = insert_input(
            program, "coefficients", like.new_empty((program.history,), dtype=torch.float32), "coefficients"
        )
        nodes = program.named()
        for site, lookup in zip(program.sites, lookups, strict=True):
            predicted = insert_after(lookup, ops.predict, lookup, coefficients)
            if site.is_residual:
                insert_after(predicted, torch.ops.aten.add.Tensor, nodes[site.spine], predicted)
        return len(program.sites)
