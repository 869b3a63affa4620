"""torch.export of one call, and whose fault it is when that fails."""

from __future__ import annotations

import sysconfig
import traceback
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch._subclasses import FakeTensor
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import is_traceable_wrapper_subclass
from torch.utils._pytree import TreeSpec

from fouriercache.calls import describe
from fouriercache.errors import CaptureError
from fouriercache.gates import TRACING, gate_of
from fouriercache.in_place import mutates, replace_writes
from fouriercache.questions import Answer, Answering, Recording

_OWN_OF_PYTHON = tuple(sysconfig.get_path(name).replace("\\", "/") + "/" for name in ("stdlib", "platstdlib"))


@dataclass(frozen=True)
class Traced:
    """What torch.export made of one call.

    Attributes:
        exported: returns the leaves of the model's output, then the tensors that were asked.
        out_spec: of the model's output.
        told: what the model was told when it asked, one answer for each tensor.
    """

    exported: torch.export.ExportedProgram
    out_spec: TreeSpec
    told: tuple[Answer, ...] = ()


def trace_call(
    model: nn.Module, arguments: Mapping[str, Any], shapes: Any = None, recording: Recording | None = None
) -> Traced:
    """Export the model for calls like `model(**arguments)`, free of calls that change their inputs.

    Args:
        shapes: torch.export's `dynamic_shapes`; None fixes every size.
        recording: a run of the model on `arguments`; what it asks of its tensors in Python is answered from it.

    Raises:
        CaptureError: the model writes into one of its parameters, buffers or inputs.
        Exception: whatever torch.export raises, of many unrelated types for one cause.
    """
    answering = Answering(model, recording) if recording is not None and recording.answers else None
    traced = model if answering is None else answering.module
    # which puts fake tensors in the place of the model's weights
    with gate_of(model).alone(), TRACING, torch.no_grad(), _attributes_kept(model):
        # A trace that fails leaves marks on the tensors it saw as dynamic, which the next trace would believe.
        fresh = pytree.tree_map(lambda leaf: leaf.detach() if isinstance(leaf, Tensor) else leaf, dict(arguments))
        with warnings.catch_warnings():
            # such attributes are put back
            warnings.filterwarnings("ignore", message="The tensor attribute", category=UserWarning)
            # torch 2.13 copies its own tree specs in a form that it warns of itself
            warnings.filterwarnings("ignore", message=r"`isinstance\(treespec, LeafSpec\)`", category=FutureWarning)
            exported = torch.export.export(traced, (), fresh, dynamic_shapes=shapes, strict=False)
            out_spec = exported.call_spec.out_spec
            if _has_subclasses(exported) or not _make_functional(exported):
                exported = exported.run_decompositions({})  # which traces it all again, with plain tensors for weights
                exported.graph.eliminate_dead_code()  # what it computed of sizes to assert
    _check_pure(model, exported)
    if answering is None:
        return Traced(exported, out_spec)
    return Traced(exported, out_spec.child(0), answering.told)


def _has_subclasses(exported: torch.export.ExportedProgram) -> bool:
    """Whether a weight is a tensor subclass made of other tensors, as quantised ones are."""
    return any(is_traceable_wrapper_subclass(value) for value in exported.state_dict.values())


def _make_functional(exported: torch.export.ExportedProgram) -> bool:
    """Replace writes in the main graph where that is plain; return whether no graph writes into a tensor any more."""
    module = exported.graph_module
    bodies = [part for part in module.modules() if isinstance(part, fx.GraphModule) and part is not module]
    return not any(mutates(node) for body in bodies for node in body.graph.nodes) and replace_writes(module.graph)


@contextmanager
def _attributes_kept(model: nn.Module) -> Iterator[None]:
    """Undo what tracing left in the modules' attributes: a table that a model makes at its first call is fake then."""
    before = [(module, dict(vars(module))) for module in model.modules()]
    try:
        yield
    finally:
        for module, attributes in before:
            for name, value in list(vars(module).items()):
                if attributes.get(name) is not value and _is_fake(value):
                    if name in attributes:
                        vars(module)[name] = attributes[name]
                    else:
                        del vars(module)[name]


def _is_fake(value: object) -> bool:
    return any(isinstance(leaf, FakeTensor) for leaf in pytree.tree_leaves(value))


def trace_fixed(model: nn.Module, arguments: Mapping[str, Any], recording: Recording | None) -> Traced:
    """Export for the very shapes of `arguments`.

    Args:
        recording: a run of the model on them; None when it cannot be run on them.

    Raises:
        CaptureError: torch.export cannot trace the model; names the model's line.
    """
    try:
        return trace_call(model, arguments, recording=recording)
    except CaptureError:
        raise
    except Exception as error:
        raise CaptureError(
            f"torch.export cannot trace {type(model).__name__}: {first_line(error)}\n"
            f"  where: {_user_frame(error)}\n"
            f"  inputs: {describe(*_named(arguments))}\n"
            "  Make that line traceable (no Python branch on tensor values, no NumPy, no .item()), or report the model."
        ) from error


def _check_pure(model: nn.Module, exported: torch.export.ExportedProgram) -> None:
    signature = exported.graph_signature
    written = [f"buffer {name}" for name in signature.buffers_to_mutate.values()]
    written += [f"input {name}" for name in signature.user_inputs_to_mutate.values()]
    written += [f"parameter {spec.target}" for spec in signature.output_specs if spec.kind.name == "PARAMETER_MUTATION"]
    if written:
        raise CaptureError(
            f"{type(model).__name__} writes into what it is given: a step that is run from a graph, or not at all, "
            f"would not.\n  where: {', '.join(written)}\n"
            "  Let forward return new tensors, and keep no state from call to call."
        )


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


def _named(arguments: Mapping[str, Any]) -> tuple[list[Tensor], list[str]]:
    pairs = [(v, k) for k, v in arguments.items() if isinstance(v, Tensor)]
    return [v for v, _ in pairs], [k for _, k in pairs]


def _user_frame(error: BaseException) -> str:
    """Name the innermost frame outside torch: the model's own line."""
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        path = frame.filename.replace("\\", "/")
        is_python = path.startswith(_OWN_OF_PYTHON) and "site-packages" not in path
        if "/torch/" not in path and "fouriercache" not in path and not is_python:
            return f"{frame.filename}:{frame.lineno} in {frame.name}: {frame.line}"
    return "inside torch.export"
