"""torch.export of one call, and whose fault it is when that fails."""

from __future__ import annotations

import traceback
import warnings
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, fx, nn

from fouriercache.calls import describe
from fouriercache.errors import CaptureError
from fouriercache.verification import run_model


def trace_call(model: nn.Module, arguments: Mapping[str, Any], shapes: Any = None) -> torch.export.ExportedProgram:
    """Export the model for calls like `model(**arguments)`, free of calls that change their inputs.

    Args:
        shapes: torch.export's `dynamic_shapes`; None fixes every size.

    Raises:
        Exception: whatever torch.export raises, of many unrelated types for one cause.
    """
    with torch.no_grad():
        exported = torch.export.export(model, (), dict(arguments), dynamic_shapes=shapes, strict=False)
        if any(_mutates(node) for node in exported.graph.nodes):
            with warnings.catch_warnings():
                # torch 2.13 copies its own tree specs in a form that it warns of itself
                warnings.filterwarnings("ignore", message=r"`isinstance\(treespec, LeafSpec\)`", category=FutureWarning)
                exported = exported.run_decompositions({})
    return exported


def trace_fixed(
    model: nn.Module, arguments: Mapping[str, Any], *, has_values: bool = True
) -> torch.export.ExportedProgram:
    """Export for the very shapes of `arguments`.

    Args:
        has_values: whether the model can be run on them.

    Raises:
        CaptureError: torch.export cannot trace the model; names the model's line.
        Exception: the model itself refuses these inputs; its own error, with a note.
    """
    try:
        return trace_call(model, arguments)
    except Exception as error:
        if has_values:
            run_model(model, arguments)  # an error of the caller's is not blamed on the model's code
        raise CaptureError(
            f"torch.export cannot trace {type(model).__name__}: {first_line(error)}\n"
            f"  where: {_user_frame(error)}\n"
            f"  inputs: {describe(*_named(arguments))}\n"
            "  Make that line traceable (no Python branch on tensor values, no NumPy, no .item()), or report the model."
        ) from error


def guards_of(exported: torch.export.ExportedProgram) -> tuple[Any, ...]:
    """The relations of dynamic sizes that torch.export assumed, but for "at least 2", which it always assumes."""
    tensors = [node.meta.get("val") for node in exported.graph.find_nodes(op="placeholder")]
    modes = [tensor.fake_mode for tensor in tensors if hasattr(tensor, "fake_mode")]
    environment = modes[0].shape_env if modes else None
    if environment is None or not exported.range_constraints:
        return ()
    found = [environment.replace(guard.expr) for guard in environment.guards]
    for symbol, allowed in exported.range_constraints.items():
        found.append(symbol <= allowed.upper)
        if allowed.lower > 2:
            found.append(symbol >= allowed.lower)
    return tuple(guard for guard in dict.fromkeys(found) if getattr(guard, "free_symbols", None))


@lru_cache(maxsize=1024)  # the same few questions come back in every call, and sympy is slow
def hold(guards: tuple[Any, ...], sizes: tuple[tuple[str, int], ...]) -> bool:
    """Whether all relations hold; one of a size that no input has cannot be asked, and says nothing of a call."""
    known = dict(sizes)
    return all(
        bool(guard.subs({symbol: known[str(symbol)] for symbol in guard.free_symbols}))
        for guard in guards
        if all(str(symbol) in known for symbol in guard.free_symbols)
    )


def first_line(error: BaseException) -> str:
    """The error's type and the first line of its message."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0] if lines else '(no message)'}"


def _mutates(node: fx.Node) -> bool:
    return isinstance(node.target, torch._ops.OpOverload) and node.target._schema.is_mutable


def _named(arguments: Mapping[str, Any]) -> tuple[list[Tensor], list[str]]:
    pairs = [(v, k) for k, v in arguments.items() if isinstance(v, Tensor)]
    return [v for v, _ in pairs], [k for _, k in pairs]


def _user_frame(error: BaseException) -> str:
    """Name the innermost frame outside torch: the model's own line."""
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if "/torch/" not in frame.filename.replace("\\", "/") and "fouriercache" not in frame.filename:
            return f"{frame.filename}:{frame.lineno} in {frame.name}: {frame.line}"
    return "inside torch.export"
