"""What every pass does on five families of models, as a function of their depth: a pass that stops matching is noticed.

How many no-ops and duplicates a graph has depends on the releases of torch and diffusers; everything else does not.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import pytest
import torch
from torch import Tensor

from fouriercache.passes.base import Pipeline
from fouriercache.passes.fuse_update import FuseUpdate
from fouriercache.passes.hoist_conditioning import HoistConditioning
from fouriercache.passes.match import is_attention
from fouriercache.passes.narrow_linear import NarrowLinear
from fouriercache.passes.outline_cond import OutlineCond
from fouriercache.passes.specialize_step import SpecializeStep
from fouriercache.program import Program, TokenGrid
from fouriercache.testing import compare, feed
from tests import zoo
from tests.passes.stages import after, canonical_passes

Counts = dict[str, int]
SITES = ("branch", "block", "stack")
DEPTHS = (1, 2)

EXPECTED: dict[str, Callable[[int], Counts]] = {
    "dit": lambda depth: {"branch": 2 * depth, "block": depth, "FindGrid": 1, "NarrowLinear": depth, "read": 2 * depth},
    # The modulation of all blocks is one linear; each block adds a table to it before it takes its pieces.
    "pixart": lambda depth: {"branch": 3 * depth, "block": depth, "FindGrid": 1, "NarrowLinear": 0, "read": 3 * depth},
    # `depth` blocks of two streams with two branches each, `depth` of one stream with one; the last drops its text.
    "flux": lambda depth: {
        "branch": 5 * depth,
        "block": 4 * depth - 1,
        "FindGrid": 0,
        "NarrowLinear": 3 * depth,
        "read": 5 * depth,
    },
    "wan": lambda depth: {"branch": 3 * depth, "block": depth, "FindGrid": 1, "NarrowLinear": 0, "read": 3 * depth},
    # Two streams of two branches; the last block's text feeds its attention alone, and no reuse step reads any text.
    "sd3": lambda depth: {
        "branch": 4 * depth - 2,
        "block": 2 * depth - 1,
        "FindGrid": 1,
        "NarrowLinear": depth,
        "read": 2 * depth,
    },
}
GRIDS = {"dit": TokenGrid(1, 4, 4), "pixart": TokenGrid(1, 4, 4), "wan": TokenGrid(3, 4, 4), "sd3": TokenGrid(1, 8, 8)}

models = pytest.mark.parametrize("name", list(zoo.BUILDERS))
kinds = pytest.mark.parametrize("site", SITES)


@cache
def _canonical(name: str, depth: int, site: str) -> tuple[Program, Counts]:
    program = zoo.captured(name, depth)
    counts = Pipeline(canonical_passes(site, 1)).apply(program)
    return program, {step.split("(")[0]: count for step, count in counts.items()}


def canonical(name: str, site: str, depth: int = 2) -> Program:
    return _canonical(name, depth, site)[0].clone()


def own_history(program: Program, given: dict[str, Tensor]) -> dict[str, Tensor]:
    """A step that reuses what a computed step with the same inputs has just returned."""
    computed = after(program, SpecializeStep("compute"))
    with torch.no_grad():
        values = computed.module()(*feed(computed, given))
    new = [value for value, output in zip(values, computed.outputs, strict=True) if output.role == "slot"]
    slots = {f"slot_{position}_0": value for position, value in enumerate(new)}
    return {**given, **slots, "coefficients": torch.ones(1), "refresh": torch.tensor(False)}


@models
@pytest.mark.parametrize("depth", DEPTHS)
def test_counts_are_functions_of_depth(name: str, depth: int):
    expected = EXPECTED[name](depth)
    program, counts = _canonical(name, depth, "branch")
    sites = {kind: len(program.found[kind]) for kind in SITES}
    assert sites == {"branch": expected["branch"], "block": expected["block"], "stack": 1}
    assert counts["FindSites"] == sum(sites.values())
    assert counts["FindGrid"] == expected["FindGrid"]
    assert counts["InsertCache"] == counts["InsertPredictor"] == counts["InsertGate"] == sites["branch"]
    assert OutlineCond().apply(program.clone()) == sites["branch"]
    reuse = after(program, SpecializeStep("reuse"))
    assert NarrowLinear().apply(reuse) == expected["NarrowLinear"]
    HoistConditioning().apply(reuse)
    assert FuseUpdate().apply(reuse) == expected["read"]
    assert sum(given.role == "slot" for given in reuse.inputs) == expected["read"]


@models
def test_noops_and_duplicates_are_found_in_every_block(name: str):
    shallow, deep = (_canonical(name, depth, "branch")[1] for depth in DEPTHS)
    assert deep["RemoveNoops"] > shallow["RemoveNoops"]
    assert deep["MergeDuplicates"] > shallow["MergeDuplicates"]


@models
def test_the_grid_is_the_patch_embeddings(name: str):
    program = canonical(name, "branch")
    assert program.grid == GRIDS.get(name)
    assert ("FindGrid" in program.refused) == (name not in GRIDS)


@models
@kinds
def test_a_computed_step_gives_what_the_model_gives(name: str, site: str):
    computed = after(canonical(name, site), SpecializeStep("compute"))
    compare(zoo.captured(name), computed, zoo.inputs(name))


@models
@kinds
def test_a_reuse_step_with_this_steps_own_values_gives_this_steps_result(name: str, site: str):
    program = canonical(name, site)
    given = own_history(program, zoo.inputs(name))
    reuse = after(program, SpecializeStep("reuse"))
    # (out - in) + in rounds twice for each residual; a branch is kept as it is.
    compare(zoo.captured(name), reuse, given, rtol=None if site == "branch" else 2**-16)


@models
@kinds
def test_no_attention_is_left_in_a_reuse_step(name: str, site: str):
    assert is_attention(zoo.captured(name).calls())
    assert not is_attention(after(canonical(name, site), SpecializeStep("reuse")).calls())


@models
@pytest.mark.parametrize("refresh", [True, False])
def test_the_cond_gives_what_the_specialised_graph_gives(name: str, refresh: bool):
    program = canonical(name, "branch")
    given = own_history(program, zoo.inputs(name)) | {"refresh": torch.tensor(refresh)}
    compare(after(program, SpecializeStep("compute" if refresh else "reuse")), after(program, OutlineCond()), given)
