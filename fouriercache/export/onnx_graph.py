"""A program as an ONNX graph: translated by torch, named as the program is, free of what the exporting machine said."""

from __future__ import annotations

import logging
import re
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch

from fouriercache.errors import LoweringError
from fouriercache.export.exported import export_program
from fouriercache.export.onnx_calls import trace_no_more_than_needed, write_in_known_calls
from fouriercache.export.onnx_forms import add_in_rows, move_once, read_numbers
from fouriercache.export.onnx_images import cut_images, put_images_together
from fouriercache.export.onnx_patches import multiply_patches
from fouriercache.extras import import_extra
from fouriercache.gates import TRACING
from fouriercache.program import Program, sizes_of, tensor_of
from fouriercache.tracing import first_line

if TYPE_CHECKING:
    import onnx_ir as ir

_OPSET = 22
"""The first with convolutions in bfloat16; TensorRT takes no later one when there is an If."""


def translate(program: Program) -> ir.Model:
    """Return the program as an ONNX model whose initializers are the program's own weights, shared and not copied.

    Inputs and outputs have the program's names; an output that is called like an input (a state) has `.new` behind its
    name. A dynamic size has the name it has in the program. No node carries a stack trace, a path or a class name.

    Raises:
        MissingExtraError: the extra `onnx` is not installed.
        LoweringError: torch cannot translate the program; says which call.
    """
    import_extra("onnx")
    import_extra("onnxscript")
    exported = export_program(write_in_known_calls(program))
    trace_no_more_than_needed(exported)
    with TRACING, _quiet():
        try:
            found: Any = torch.onnx.export(
                exported, dynamo=True, opset_version=_OPSET, optimize=False, verbose=False, external_data=False
            )
        except Exception as error:
            raise LoweringError(
                f"torch cannot write the program in ONNX: {first_line(_root_of(error))}\n"
                f"  where: {first_line(error.__cause__ or error)}\n"
                "  If ONNX has what the model is written in, this is a defect of fouriercache; please report it."
            ) from error
        model: ir.Model = found.model
        _tidy(model)
    _name_values(model, program)
    _name_sizes(model, program)
    return model


def _root_of(error: BaseException) -> BaseException:
    """What an error came from in the end: torch wraps it in several that say in which step it happened."""
    return error if error.__cause__ is None else _root_of(error.__cause__)


def output_names(program: Program) -> tuple[str, ...]:
    """The names that the program's outputs have in ONNX, where no two values share a name."""
    inputs = {given.name for given in program.inputs}
    return tuple(output.name + ".new" if output.name in inputs else output.name for output in program.outputs)


def _graphs_of(model: ir.Model) -> Iterator[ir.Graph]:
    """The main graph, then the bodies of its control flow."""
    import onnx_ir

    yield model.graph
    for node in onnx_ir.traversal.RecursiveGraphIterator(model.graph):
        for attribute in node.attributes.values():
            if attribute.type == onnx_ir.AttributeType.GRAPH:
                yield attribute.as_graph()


def _tidy(model: ir.Model) -> None:
    """Fold constants and drop what is not needed; the model's weights stay as they are, so that graphs share them."""
    import onnx_ir
    from onnx_ir.passes import common
    from onnxscript import optimizer

    weights = set(model.graph.initializers)

    def should_fold(node: ir.Node) -> bool | None:
        # a transposed or sliced weight would be another tensor on disk; every engine folds it when it loads
        return False if any(value is not None and value.name in weights for value in node.inputs) else None

    optimizer.optimize_ir(model, should_fold=should_fold)
    _transpose_by_name(model)
    _drop_squeezes(model)
    multiply_patches(model)
    add_in_rows(model)
    move_once(model)  # so that an image is cut in one move, which `cut_images` looks for
    cut_images(model)
    put_images_together(model)
    read_numbers(model)
    common.RemoveUnusedNodesPass()(model)
    common.ClearMetadataAndDocStringPass()(model)
    model.producer_name, model.producer_version = "fouriercache", None
    model.metadata_props.clear()
    for graph in _graphs_of(model):
        graph.doc_string = None
        graph.metadata_props.clear()
        for value in (*graph.inputs, *graph.outputs, *graph.initializers.values()):
            value.metadata_props.clear()
    for node in onnx_ir.traversal.RecursiveGraphIterator(model.graph):
        for value in node.outputs:
            value.metadata_props.clear()


def _transpose_by_name(model: ir.Model) -> None:
    """Write an Einsum of one operand that only reorders axes as a Transpose: Einsum knows no bfloat16."""
    import onnx_ir

    for node in onnx_ir.traversal.RecursiveGraphIterator(model.graph):
        if node.op_type != "Einsum" or len(node.inputs) != 1:
            continue
        before, _, after = node.attributes["equation"].as_string().replace(" ", "").partition("->")
        if before.isalpha() and len(set(before)) == len(before) and sorted(before) == sorted(after):
            node.op_type = "Transpose"
            node.attributes.clear()
            node.attributes.add(onnx_ir.AttrInt64s("perm", [before.index(axis) for axis in after]))


def _drop_squeezes(model: ir.Model) -> None:
    """Drop a Squeeze of an axis that is longer than 1: torch leaves such a value as it is, ONNX forbids it."""
    import onnx_ir
    from onnx_ir.passes import common

    for node in onnx_ir.traversal.RecursiveGraphIterator(model.graph):
        if node.op_type != "Squeeze" or len(node.inputs) != 2:
            continue
        value, axes = node.inputs
        given = None if axes is None else onnx_ir.convenience.get_const_tensor(axes)
        if value is None or value.shape is None or given is None:
            continue
        sizes = [value.shape[int(axis)] for axis in given.numpy().reshape(-1)]
        result = node.outputs[0].shape
        is_as_long = result is not None and len(result) == len(value.shape)  # as torch says of a dynamic size
        if sizes and (is_as_long or all(isinstance(size, int) and size != 1 for size in sizes)):
            node.op_type = "Identity"
            node.resize_inputs(1)
    common.IdentityEliminationPass()(model)
    common.RemoveUnusedNodesPass()(model)


def _name_values(model: ir.Model, program: Program) -> None:
    """Give inputs and outputs the program's names, and other values that have one of these another."""
    inputs = [given.name for given in program.inputs]
    outputs = output_names(program)
    graph = model.graph
    if len(graph.inputs) != len(inputs) or len(graph.outputs) != len(outputs):
        raise LoweringError(
            f"the ONNX graph has {len(graph.inputs)} inputs and {len(graph.outputs)} outputs where the program has "
            f"{len(inputs)} and {len(outputs)}.\n  This is a defect of fouriercache; please report it."
        )
    _set_apart(graph)
    ends = {id(value) for value in (*graph.inputs, *graph.outputs)}
    taken = {*inputs, *outputs}
    counts: dict[str, int] = {}
    for value in _values(model):
        if value.name in taken and id(value) not in ends:
            counts[value.name] = counts.get(value.name, 0) + 1
            value.name = f"{value.name}.inner{counts[value.name]}"
    # through a name that nothing has, as two of them may change places
    for position, value in enumerate((*graph.inputs, *graph.outputs)):
        value.name = f"fouriercache.end{position}"
    for value, name in zip((*graph.inputs, *graph.outputs), (*inputs, *outputs), strict=True):
        value.name = name


def _set_apart(graph: ir.Graph) -> None:
    """Copy a value that is returned several times, or taken and returned, for each name but the last."""
    import onnx_ir

    ends = [*graph.inputs, *graph.outputs]
    for position, value in enumerate(list(graph.outputs)):
        if any(other is value for other in (*graph.inputs, *ends[len(graph.inputs) + position + 1 :])):
            copy = onnx_ir.Value(name=f"{value.name}.copy{position}", type=value.type, shape=value.shape)
            graph.append(onnx_ir.Node("", "Identity", [value], outputs=[copy]))
            graph.outputs[position] = copy


def _values(model: ir.Model) -> Iterator[ir.Value]:
    """Every value of every graph but inputs of the main one."""
    for graph in _graphs_of(model):
        if graph is not model.graph:
            yield from graph.inputs
        yield from list(graph.initializers.values())
        for node in graph:
            yield from node.outputs


def size_names(program: Program) -> dict[str, str]:
    """What dynamic sizes are called outside of torch, by what the program calls them: that of the sample is `batch`."""
    for node in program.inputs_of("sample", "timestep"):
        tensor = tensor_of(node)
        sizes = sizes_of(tensor) if tensor is not None else ()
        if sizes and isinstance(sizes[0], str) and sizes[0].isidentifier():
            return {sizes[0]: "batch"}
    return {}


def renamed(size: int | str, names: Mapping[str, str]) -> int | str:
    """Return a size, or an expression of sizes, with other names."""
    return size if isinstance(size, int) else re.sub(r"[A-Za-z_]\w*", lambda word: names.get(word[0], word[0]), size)


def _name_sizes(model: ir.Model, program: Program) -> None:
    """Give the dynamic sizes the names they have outside; torch.export made up new ones."""
    import onnx_ir

    names: dict[str, str] = {}
    wanted = size_names(program)
    for node, value in zip(program.placeholders, model.graph.inputs, strict=True):
        tensor = tensor_of(node)
        assert tensor is not None
        for old, new in zip(value.shape or (), sizes_of(tensor), strict=True):
            if isinstance(old, onnx_ir.SymbolicDim) and isinstance(new, str) and old.value is not None:
                names.setdefault(old.value, str(renamed(new, wanted)))
    for value in (*model.graph.inputs, *_values(model)):
        if value.shape is not None:
            value.shape = onnx_ir.Shape([_renamed(size, names) for size in value.shape])


def _renamed(size: int | ir.SymbolicDim, names: Mapping[str, str]) -> int | str | None:
    given = size if isinstance(size, int) else size.value
    return None if given is None else renamed(given, names)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep away what the exporter says of packages that nobody asked for, and of what it does not merge."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnx_ir", "onnxscript")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=r"`isinstance\(treespec, LeafSpec\)`", category=FutureWarning)
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
