"""Programs as they are before a pass runs, on toys and on the tiny models."""

from __future__ import annotations

from torch import Tensor

from fouriercache.passes.base import Pass
from fouriercache.passes.find_grid import FindGrid
from fouriercache.passes.find_sites import FindSites
from fouriercache.passes.insert_cache import InsertCache
from fouriercache.passes.insert_gate import InsertGate
from fouriercache.passes.insert_predictor import InsertPredictor
from fouriercache.passes.merge_duplicates import MergeDuplicates
from fouriercache.passes.remove_dead import RemoveDead
from fouriercache.passes.remove_noops import RemoveNoops
from fouriercache.program import Program
from fouriercache.testing import trace
from tests.passes.toys import Model, X


def after(program: Program, *passes: Pass) -> Program:
    """Return a copy of `program` that `passes` have run on."""
    made = program.clone()
    for pass_ in passes:
        pass_.apply(made)
    return made


def canonical_passes(site: str, history: int) -> tuple[Pass, ...]:
    return (
        RemoveNoops(),
        FindSites(),
        FindGrid(),
        MergeDuplicates(),
        RemoveDead(),
        InsertCache(site, history),
        InsertPredictor(),
        InsertGate(),
    )


def toy(forward, *conditioning: Tensor, depth: int = 1) -> Program:
    """Trace a toy of blocks and nothing else, with its sites found."""
    return after(trace(Model(forward, depth, bare=True), X, *conditioning), FindSites())
