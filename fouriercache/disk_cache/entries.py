"""An entry: what was assembled of one call of a model, as JSON and the tensors that are not the model's own.

The model's weights are not in it: they are found again by their names. An entry is written only if what is read back
is written in the same words.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.utils import _pytree as pytree

from fouriercache.assembly import Assembled
from fouriercache.disk_cache.expressions import read_expression, write_expression
from fouriercache.disk_cache.graphs import GraphReader, GraphWriter
from fouriercache.disk_cache.reasons import NotKeptError
from fouriercache.errors import OptimizeError
from fouriercache.program import Input, NoMatch, Output, Program
from fouriercache.strict_files import parse_json

UNREADABLE = (
    ArithmeticError, AssertionError, AttributeError, LookupError, OptimizeError, RuntimeError, TypeError, ValueError
)  # fmt: skip
"""What reading may raise of an entry that is none, or that was written by another version of a library."""


def write_entry(model: nn.Module, made: Assembled) -> tuple[str, dict[str, Tensor]]:
    """Return an entry's JSON and tensors.

    Raises NotKeptError when it holds something that cannot be read back.
    """
    text, tensors = _write(model, made)
    try:
        again = read_entry(model, text, tensors)
    except UNREADABLE as error:
        raise NotKeptError(f"it cannot be read back: {type(error).__name__}: {error}") from error
    if _write(model, again)[0] != text or again.program.text() != made.program.text():
        raise NotKeptError("it is another one when it is read back")
    return text, tensors


def read_entry(model: nn.Module, text: str, tensors: Mapping[str, Tensor]) -> Assembled:
    """Return what was assembled, with the weights of `model`.

    Raises one of `UNREADABLE` when it is no such thing.
    """
    found = parse_json(text)
    reader = GraphReader(found)
    program = Program(
        reader.read(found["graph"]),
        {name: _read_attribute(model, reader, part, tensors, name) for name, part in found["attributes"].items()},
        dict(found["sources"]),
        tuple(Input(name, role) for name, role in found["inputs"]),
        tuple(Output(name, role) for name, role in found["outputs"]),
        refused={name: [NoMatch(*reason) for reason in reasons] for name, reasons in found["refused"].items()},
    )
    program.verify()
    return Assembled(
        program,
        tuple(tuple(shape) for shape in found["shapes"]),
        _read_spec(found["out_spec"]),
        {position: reader.values.read(value) for position, value in found["constants"]},
        tuple(read_expression(guard, reader.values.symbols) for guard in found["guards"]),
        None,
        tuple(found["kept"]),
    )


def _write(model: nn.Module, made: Assembled) -> tuple[str, dict[str, Tensor]]:
    if made.questions is not None:
        raise NotKeptError("the model asks in Python for values of its inputs")
    writer, program = GraphWriter(), made.program
    tensors: dict[str, Tensor] = {}
    places = _places(model)
    found: dict[str, Any] = {
        "graph": writer.write(program.graph),
        "attributes": {
            name: _write_attribute(name, value, writer, places, tensors) for name, value in program.attributes.items()
        },
        "sources": program.sources,
        "inputs": [[given.name, given.role] for given in program.inputs],
        "outputs": [[given.name, given.role] for given in program.outputs],
        "refused": {
            name: [[reason.reason, reason.node] for reason in reasons] for name, reasons in program.refused.items()
        },
        "shapes": made.shapes,
        "out_spec": _write_spec(made.out_spec),
        "constants": [[position, writer.values.write(value)] for position, value in made.constants.items()],
        "guards": [write_expression(guard) for guard in made.guards],
        "kept": made.kept,
    }
    return json.dumps(found | writer.tables(), allow_nan=False), tensors


def _write_attribute(
    name: str, value: Any, writer: GraphWriter, places: Mapping[Any, str], tensors: dict[str, Tensor]
) -> dict[str, Any]:
    if isinstance(value, fx.GraphModule):
        used = {str(node.target) for node in value.graph.find_nodes(op="get_attr")}
        if any("." in inner for inner in used):
            raise NotKeptError(f"{name} holds a graph with modules of its own")
        inside = {
            inner: _write_attribute(f"{name}.{inner}", getattr(value, inner), writer, places, tensors)
            for inner in sorted(used)
        }
        return {"graph": writer.write(value.graph), "attributes": inside, "name": value._get_name()}
    if not isinstance(value, Tensor):
        raise NotKeptError(f"the graph reads a {type(value).__name__}")
    place = places.get(_memory_of(value))
    if place is not None:
        return {"of the model": place, "parameter": isinstance(value, nn.Parameter)}
    if type(value) not in (Tensor, nn.Parameter) or value.layout is not torch.strided:
        raise NotKeptError(f"the graph reads a {type(value).__name__} of its own")
    form = {
        "shape": list(value.shape),
        "stride": list(value.stride()),
        "dtype": str(value.dtype).removeprefix("torch."),
    }
    if not value.is_meta:
        held = value.detach().resolve_conj().resolve_neg().cpu().contiguous()
        tensors[name] = torch.view_as_real(held).clone() if held.is_complex() else held.clone()
    return form | {"device": str(value.device)}


def _read_attribute(
    model: nn.Module, reader: GraphReader, found: Mapping[str, Any], tensors: Mapping[str, Tensor], name: str
) -> Any:
    if "graph" in found:
        inside = {
            inner: _read_attribute(model, reader, part, tensors, f"{name}.{inner}")
            for inner, part in found["attributes"].items()
        }
        return fx.GraphModule(inside, reader.read(found["graph"]), class_name=found["name"])
    if "of the model" in found:
        value: Any = model
        for part in found["of the model"].split("."):
            value = getattr(value, part)
        if not isinstance(value, Tensor):
            raise ValueError(f"{found['of the model']} is a {type(value).__name__}")
        return value.detach() if isinstance(value, nn.Parameter) and not found["parameter"] else value
    dtype = getattr(torch, found["dtype"])
    made = torch.empty_strided(found["shape"], found["stride"], dtype=dtype, device=found["device"])
    if not made.is_meta:
        held = tensors[name]
        made.copy_(torch.view_as_complex(held) if dtype.is_complex else held)
    return made


def _places(model: nn.Module) -> dict[Any, str]:
    """Where the model has each of its tensors, by their memory: weights, and what modules hold besides."""
    places: dict[Any, str] = {}
    for prefix, module in model.named_modules():
        for held in (module._parameters, module._buffers, vars(module)):
            for key, value in held.items():
                if isinstance(value, Tensor):
                    places.setdefault(_memory_of(value), f"{prefix}.{key}" if prefix else key)
    return places


def _memory_of(tensor: Tensor) -> Any:
    form = tuple(tensor.shape), tensor.stride(), tensor.dtype, tensor.is_conj(), tensor.is_neg()
    return (tensor.untyped_storage()._cdata, tensor.storage_offset(), *form)


def _write_spec(spec: pytree.TreeSpec) -> str:
    try:
        text = pytree.treespec_dumps(spec)
    except (NotImplementedError, TypeError, ValueError) as error:
        raise NotKeptError(f"the model returns a type that torch cannot name: {error}") from error
    if "collections.defaultdict" in text:
        raise NotKeptError("the model returns a defaultdict, whose factory would be imported")
    return text


def _read_spec(text: str) -> pytree.TreeSpec:
    if "collections.defaultdict" in text:
        raise ValueError("a defaultdict's factory would be imported")
    return pytree.treespec_loads(text)
