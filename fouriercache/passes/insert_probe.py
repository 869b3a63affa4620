"""Measure how far the indicator of an adaptive schedule moved."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import fx

from fouriercache.errors import PreconditionError, UnsupportedModelError
from fouriercache.indicators import Indicator, Modulated
from fouriercache.passes.base import Pass
from fouriercache.passes.edit import insert_before, insert_input
from fouriercache.passes.filters import Axes, find_axes, insert_filter, insert_wide
from fouriercache.passes.insert_cache import shows_part
from fouriercache.passes.match import shared_with
from fouriercache.passes.sources import find_source
from fouriercache.program import NoMatch, Output, Program, tensor_of

aten = torch.ops.aten


@dataclass(frozen=True)
class InsertProbe(Pass):
    """Return the indicator as a state, and its distance from the one before: [mean |new - old|, mean |old|].

    The indicator is a value of the graph, through a matrix along each axis of its token grid if it is filtered; the
    matrices are inputs. Distances are taken in float32 or wider, over the whole tensor, the batch included (TeaCache,
    TeaCache4FLUX/teacache_flux.py, has them in the model's own type).

    Before::

        main(%0: f32[2,4,8] x)
          %1: f32[2,4,8] = add.Tensor(%0, 1)
          return [%1]

    After::

        main(%0: f32[2,4,8] x, %1: f32[2,4,8] indicator)
          %2: f32[2,4,8] = add.Tensor(%0, 1)
          %3: f32[2,4,8] = sub.Tensor(%2, %1)
          %4: f32[2,4,8] = abs.default(%3)
          %5: f32[] = mean.default(%4)
          %6: f32[2,4,8] = abs.default(%1)
          %7: f32[] = mean.default(%6)
          %8: f32[2] = stack.default([%5, %7])
          return [%2, %2, %8]

    (The indicator is `%1` of the graph before, unfiltered.)

    Requires: `FindSites`, and not yet `SpecializeStep`; for a filtered indicator, a token grid.
    Keeps: 1. a program that has a distance.
    Error: exact.
    """

    indicator: Indicator = field(default_factory=Modulated)

    def requires(self, program: Program) -> None:
        if not program.found:
            raise PreconditionError(
                f"InsertProbe needs sites, found none in {sum(1 for _ in program.calls())} calls.\n"
                "  Run FindSites first."
            )
        nodes = program.named()
        gone = [site.value for site in program.found["branch"] if site.value not in nodes]
        if gone:
            raise PreconditionError(
                f"InsertProbe needs every value of the model, but {gone[0]} is gone.\n  Run it before SpecializeStep."
            )
        found = _find(program, self.indicator)
        if isinstance(found, NoMatch):
            raise UnsupportedModelError(
                f"{self.indicator!r} cannot be computed for this model: {found.reason}.\n"
                f"  where: {found.node or 'the whole graph'}\n"
                "  Use another indicator (Modulated, TimestepEmbedding, Latents); grid= tells optimize a token grid."
            )

    def rewrite(self, program: Program) -> int:
        if any(output.role == "distance" for output in program.outputs):
            return 0
        found = _find(program, self.indicator)
        assert not isinstance(found, NoMatch)
        value, axes = found
        end = program.output_node
        if axes.sizes:
            value = insert_filter(program, value, axes)
        elif shows_part(value) or any(node.op == "placeholder" for node in shared_with(value)):
            # A state that shares memory with a larger tensor keeps that alive; with the caller's, it changes with it.
            value = insert_before(end, aten.clone.default, value, like=value)
        before = insert_input(program, "indicator", tensor_of(value), "state")
        old = insert_wide(before)
        change = insert_before(end, aten.sub.Tensor, insert_wide(value), old, like=value)
        means = [
            insert_before(end, aten.mean.default, insert_before(end, aten.abs.default, node, like=value), like=value)
            for node in (change, old)
        ]
        distance = insert_before(end, aten.stack.default, means, like=value)
        program.set_outputs(
            [*program.results, value, distance],
            [*program.outputs, Output("indicator", "state"), Output("distance", "distance")],
        )
        return 1


def _find(program: Program, indicator: Indicator) -> tuple[fx.Node, Axes] | NoMatch:
    """The value that the indicator is made of and how it lies on its grid, or why that cannot be told."""
    value = find_source(program, indicator.source)
    if isinstance(value, NoMatch):
        return value
    axes = find_axes(program, indicator, value)
    return axes if isinstance(axes, NoMatch) else (value, axes)
