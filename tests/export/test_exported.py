"""torch.export takes every program we make, and computes the same."""

from __future__ import annotations

import pytest
import torch

import fouriercache as fc
from fouriercache.export import export_program
from fouriercache.testing import feed
from tests.tiny import tiny_dit

NAMES = ("compute", "reuse", "cond")
CALL = {
    "hidden_states": torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0)),
    "timestep": torch.tensor([500, 500]),
    "class_labels": torch.tensor([1, 7]),
}


@pytest.fixture(scope="module")
def fast() -> fc.OptimizedModule:
    return fc.optimize(tiny_dit(), fc.TaylorSeer(3, 1, site="stack"), num_steps=9, example_inputs=CALL)


@pytest.fixture(scope="module")
def exported(fast) -> dict[str, torch.export.ExportedProgram]:
    return {name: export_program(fast.program(name)) for name in NAMES}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("batch", [2, 3])
def test_an_exported_program_computes_what_the_program_computes(fast, exported, name, batch):
    program = fast.program(name)
    rows = {key: value.repeat_interleave(2, 0)[:batch] for key, value in CALL.items()}
    slots = {
        node.name: torch.randn(batch, 16, 16)
        for node, given in zip(program.placeholders, program.inputs, strict=True)
        if given.role == "slot"
    }
    inputs = feed(program, {**rows, **slots, "coefficients": torch.tensor([1.5, -0.5]), "refresh": torch.tensor(False)})
    module = exported[name].module()
    with torch.no_grad():
        for want, have in zip(program.module()(*inputs), module(*inputs), strict=True):
            assert torch.equal(want, have)


def test_an_exported_program_carries_no_path_of_this_machine(exported):
    graphs = [m.graph for m in exported["cond"].graph_module.modules() if isinstance(m, torch.fx.GraphModule)]
    assert len(graphs) == 3
    assert not any("stack_trace" in node.meta for graph in graphs for node in graph.nodes)
