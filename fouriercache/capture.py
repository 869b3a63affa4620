"""Capture: a denoiser and one call become a `Program`, checked against the model itself before anyone uses it."""

from __future__ import annotations

import logging
import traceback
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.export import Dim
from torch.utils import _pytree as pytree

from fouriercache.calls import Binder, Call, describe, find_sample, find_timestep
from fouriercache.errors import CaptureError
from fouriercache.program import Input, NoMatch, Output, Program, Role, sizes_of

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Capture:
    """A captured program and the calls it serves.

    Attributes:
        program: flat positional tensors in (the call's tensor leaves, in order), flat tensors out.
        key: the constants and nesting that are baked in.
        shapes: for each tensor leaf, sizes; a string stands for a dynamic size, equal strings for equal sizes.
        dtypes, devices: for each tensor leaf.
        out_spec: rebuilds the model's output type from the flat results.
        constants: results that are not tensors, by position.
        least_batch: the smallest dynamic size that is served; torch.export itself assumes 2.
    """

    program: Program
    key: tuple[Any, ...]
    shapes: tuple[tuple[int | str, ...], ...]
    dtypes: tuple[torch.dtype, ...]
    devices: tuple[torch.device, ...]
    out_spec: pytree.TreeSpec
    constants: Mapping[int, Any]
    least_batch: int = 2

    def serves(self, call: Call) -> bool:
        """Whether the program computes what the model would for this call."""
        if call.key != self.key or len(call.tensors) != len(self.shapes):
            return False
        sizes: dict[str, int] = {}
        for tensor, shape, dtype, device in zip(call.tensors, self.shapes, self.dtypes, self.devices, strict=True):
            if tensor.dtype != dtype or tensor.device != device or tensor.ndim != len(shape):
                return False
            for size, wanted in zip(tensor.shape, shape, strict=True):
                if isinstance(wanted, str):
                    if size < self.least_batch or sizes.setdefault(wanted, size) != size:
                        return False
                elif size != wanted:
                    return False
        return True

    def rebuild(self, results: Sequence[Tensor]) -> Any:
        """Return the results in the type the model returns."""
        if not self.constants:
            return pytree.tree_unflatten(results, self.out_spec)
        given = iter(results)
        leaves = [self.constants[i] if i in self.constants else next(given) for i in range(self.out_spec.num_leaves)]
        return pytree.tree_unflatten(leaves, self.out_spec)


def capture(
    model: nn.Module,
    arguments: Mapping[str, Any],
    *,
    sample_name: str | None = None,
    timestep_name: str | None = None,
    verify: bool = True,
) -> Capture:
    """Capture `model` for calls like `model(**arguments)`.

    The batch is dynamic where torch.export can make it so, else the capture serves this batch size alone and the
    program's `refused["capture"]` says why. The captured program is run once and compared with the model.

    Args:
        model: in eval mode; it is not changed.
        arguments: keyword arguments of one call, real tensors (or fake or meta ones with `verify=False`).
        sample_name, timestep_name: which arguments hold the latents and the timestep, when their names do not tell.
        verify: compare the program with the model on `arguments`.

    Raises:
        CaptureError: the model is in training mode, torch.export cannot trace it, or the program disagrees with it.
    """
    if model.training:
        raise CaptureError(
            f"{type(model).__name__} is in training mode; dropout would be captured as it falls.\n"
            "  Call model.eval() first."
        )
    call = Binder(model).flatten(arguments)
    sample = find_sample(call.paths, call.tensors, sample_name)
    timestep = find_timestep(call.paths, call.tensors, timestep_name)
    reasons: list[NoMatch] = []
    found = _capture_any_batch(model, arguments, call, sample, timestep, reasons, verify=verify)
    if found is None:
        found = _to_program(_export_fixed(model, arguments), call, sample, timestep)
        if verify:
            _verify_capture(model, found, arguments, call)
    for reason in reasons:
        found.program.refuse("capture", reason)
    return found


def _capture_any_batch(
    model: nn.Module,
    arguments: Mapping[str, Any],
    call: Call,
    sample: int,
    timestep: int,
    reasons: list[NoMatch],
    *,
    verify: bool,
) -> Capture | None:
    """Capture with a dynamic batch, or say in `reasons` why that cannot be done.

    torch.export takes a size of 1 for a constant, so a call at batch 1 is traced at batch 2; whether the graph is
    right at 1 is then seen by running it.
    """
    batch = call.tensors[sample].shape[0]
    example = dict(arguments)
    if batch == 1:
        example = pytree.tree_map(lambda leaf: torch.cat([leaf, leaf]) if _leads(leaf, 1) else leaf, example)
    size = max(batch, 2)
    shapes = pytree.tree_map(lambda leaf: {0: Dim.AUTO} if _leads(leaf, size) else None, example)
    try:
        with torch.no_grad():
            exported = _traced(model, example, shapes)
        found = _to_program(exported, call, sample, timestep)
        if batch == 1:
            found = replace(found, least_batch=1)
        if not found.serves(call):
            reasons.append(NoMatch("no dynamic batch: the model takes its batch size for a constant"))
            return None
        if verify:
            _verify_capture(model, found, arguments, call)
    except Exception as error:  # noqa: BLE001  # torch.export raises many unrelated types for one cause
        reasons.append(NoMatch(f"no dynamic batch: {_first_line(error)}"))
        logger.info("dynamic batch refused: %s", error)
        return None
    return found


def _leads(leaf: Any, size: int) -> bool:
    """Whether a leaf is a tensor whose first dimension has this size: taken for the batch."""
    return isinstance(leaf, Tensor) and leaf.ndim > 0 and leaf.shape[0] == size


def _export_fixed(model: nn.Module, arguments: Mapping[str, Any]) -> torch.export.ExportedProgram:
    """Export for the very shapes of `arguments`.

    Raises:
        CaptureError: torch.export cannot trace the model; names the model's line.
    """
    try:
        with torch.no_grad():
            return _traced(model, dict(arguments), None)
    except Exception as error:
        raise CaptureError(
            f"torch.export cannot trace {type(model).__name__}: {_first_line(error)}\n"
            f"  where: {_user_frame(error)}\n"
            f"  inputs: {describe(*_named(arguments))}\n"
            "  Make that line traceable (no Python branch on tensor values, no NumPy, no .item()), or report the model."
        ) from error


def _traced(model: nn.Module, kwargs: dict[str, Any], shapes: Any) -> torch.export.ExportedProgram:
    exported = torch.export.export(model, (), kwargs, dynamic_shapes=shapes, strict=False)
    if any(_mutates(node) for node in exported.graph.nodes):
        with warnings.catch_warnings():
            # torch 2.13 copies its own tree specs in a form that it warns of itself
            warnings.filterwarnings("ignore", message=r"`isinstance\(treespec, LeafSpec\)`", category=FutureWarning)
            exported = exported.run_decompositions({})
    return exported


def _mutates(node: fx.Node) -> bool:
    return isinstance(node.target, torch._ops.OpOverload) and node.target._schema.is_mutable


def _named(arguments: Mapping[str, Any]) -> tuple[list[Tensor], list[str]]:
    pairs = [(v, k) for k, v in arguments.items() if isinstance(v, Tensor)]
    return [v for v, _ in pairs], [k for _, k in pairs]


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0] if lines else '(no message)'}"


def _user_frame(error: BaseException) -> str:
    """Name the innermost frame outside torch: the model's own line."""
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if "/torch/" not in frame.filename.replace("\\", "/") and "fouriercache" not in frame.filename:
            return f"{frame.filename}:{frame.lineno} in {frame.name}: {frame.line}"
    return "inside torch.export"


def _to_program(exported: torch.export.ExportedProgram, call: Call, sample: int, timestep: int) -> Capture:
    module = exported.module(check_guards=False)
    if not isinstance(module, fx.GraphModule):
        raise CaptureError(f"torch.export returned a {type(module).__name__} instead of a GraphModule")
    graph = fx.Graph()
    mapping: dict[fx.Node, fx.Node] = {}
    output = graph.graph_copy(module.graph, mapping)
    attributes: dict[str, Any] = {}
    sources: dict[str, str] = {}
    names = set(exported.state_dict) | {name for name, _ in module.named_buffers()}
    for position, node in enumerate(graph.find_nodes(op="get_attr")):
        path = str(node.target)
        value = _attribute(module, path)
        node.target = f"subgraph_{position}" if isinstance(value, fx.GraphModule) else f"weight_{position}"
        attributes[node.target] = value
        node.meta["source"] = path
        if path in names and isinstance(value, Tensor):
            sources[node.target] = path
    for node in graph.find_nodes(op="call_function", target=torch.ops.aten._assert_tensor_metadata.default):
        node.meta.setdefault("val", None)  # export gives these no value when they stem from a decomposition
    inputs = _read_inputs(graph, call, sample, timestep)
    leaves = list(output) if isinstance(output, list | tuple) else [output]
    constants = {i: leaf for i, leaf in enumerate(leaves) if not isinstance(leaf, fx.Node)}
    results = tuple(leaf for leaf in leaves if isinstance(leaf, fx.Node))
    graph.output(results)
    program = Program(
        graph, attributes, sources, inputs, tuple(Output(f"result_{i}", "result") for i in range(len(results)))
    )
    program.verify()
    shapes = tuple(sizes_of(node.meta["val"]) for node in program.placeholders)
    return Capture(
        program=program,
        key=call.key,
        shapes=shapes,
        dtypes=tuple(t.dtype for t in call.tensors),
        devices=tuple(t.device for t in call.tensors),
        out_spec=exported.call_spec.out_spec,
        constants=constants,
    )


def _read_inputs(graph: fx.Graph, call: Call, sample: int, timestep: int) -> tuple[Input, ...]:
    """Give every tensor placeholder its role, and drop the placeholders of constants."""
    inputs: list[Input] = []
    for node in list(graph.find_nodes(op="placeholder")):
        if not isinstance(node.meta.get("val"), Tensor):
            if node.users:
                raise CaptureError(f"input {node.name} is not a tensor, yet the graph computes with it")
            graph.erase_node(node)
            continue
        index = len(inputs)
        role: Role = "sample" if index == sample else "timestep" if index == timestep else "conditioning"
        inputs.append(Input(node.name, role))
    if len(inputs) != len(call.tensors):
        raise CaptureError(f"the graph has {len(inputs)} tensor inputs, the call {len(call.tensors)}")
    return tuple(inputs)


def _attribute(module: nn.Module, path: str) -> Any:
    value: Any = module
    for part in path.split("."):
        value = getattr(value, part)
    return value


def _verify_capture(model: nn.Module, found: Capture, arguments: Mapping[str, Any], call: Call) -> None:
    """Compare the program with the model on one call.

    Raises:
        CaptureError: the outputs differ by more than rounding, with the size of the difference.
    """
    with torch.no_grad():
        want = pytree.tree_leaves(model(**arguments))
        have = pytree.tree_leaves(found.rebuild(found.program.module()(*call.tensors)))
    for position, (a, b) in enumerate(zip(want, have, strict=True)):
        if not isinstance(a, Tensor) or torch.equal(a, b):
            continue
        scale = a.abs().amax().item() if a.numel() else 0.0
        difference = (a.double() - b.double()).abs().amax().item()
        # NaN in both is the caller's input, not a capture that went wrong.
        same_nan = torch.equal(a.isnan(), b.isnan()) and a.isnan().any()
        if not same_nan and not difference <= 64 * torch.finfo(a.dtype).eps * max(scale, 1e-6):
            raise CaptureError(
                f"the captured graph of {type(model).__name__} does not compute what the model computes: output "
                f"{position} differs by {difference:.3g} where the largest value is {scale:.3g}.\n"
                "  torch.export traced another path than the model takes: look for Python branches on tensor values "
                "or state that changes from call to call."
            )
