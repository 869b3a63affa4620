"""A program as a `torch.export.ExportedProgram`, where every lowering begins."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, fx
from torch.export import Dim

from fouriercache.errors import LoweringError
from fouriercache.gates import TRACING
from fouriercache.program import Program, sizes_of, tensor_of


def export_program(program: Program) -> torch.export.ExportedProgram:
    """Trace a program again, so that every value's type and every constraint on its sizes is torch.export's own.

    The result takes the program's inputs by position, in their order, and returns its results as a tuple; weights are
    shared with the model. Sizes that are dynamic in the program stay dynamic. No node carries a stack trace or a path
    of the machine that exported.

    Args:
        program: the canonical program, one step mode's, or the single graph with its `torch.cond`.

    Raises:
        LoweringError: torch.export refuses the program; says at which of its inputs or nodes.
    """
    examples = tuple(_example(node) for node in program.placeholders)
    dynamic = tuple(
        {dim: Dim.AUTO for dim, size in enumerate(sizes_of(_fake(node))) if isinstance(size, str)} or None
        for node in program.placeholders
    )
    try:
        with TRACING, torch.no_grad(), warnings.catch_warnings():
            # FX says of a module made by hand that its weights are no attributes of a user's class; they are ours.
            warnings.filterwarnings("ignore", message=".*does not reference an nn.Module.*")
            exported = torch.export.export(program.module(), examples, dynamic_shapes=dynamic, strict=False)
    except Exception as error:
        names = ", ".join(node.name for node in program.placeholders)
        raise LoweringError(
            f"torch.export refuses the program: {type(error).__name__}: {error}\n  inputs: {names}\n"
            "  If the model itself could be captured, this is a defect of fouriercache; please report it."
        ) from error
    for module in exported.graph_module.modules():
        if isinstance(module, fx.GraphModule):
            for node in module.graph.nodes:
                node.meta.pop("stack_trace", None)
    return exported


def _fake(node: fx.Node) -> Tensor:
    tensor = tensor_of(node)
    assert tensor is not None
    return tensor


def _example(node: fx.Node) -> Tensor:
    """A tensor of the form an input had in the capture."""
    fake = _fake(node)
    shape: Sequence[Any] = fake.shape
    sizes = [size if isinstance(size, int) else size.node.hint for size in shape]
    return torch.zeros(sizes, dtype=fake.dtype, device=fake.device)
