"""The stable text of a program: numbered values, types, no addresses, no names that depend on a torch release."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, fx

if TYPE_CHECKING:
    from fouriercache.program import Program

_SHORT = {
    torch.float32: "f32",
    torch.float16: "f16",
    torch.bfloat16: "bf16",
    torch.float64: "f64",
    torch.int64: "i64",
    torch.int32: "i32",
    torch.int8: "i8",
    torch.bool: "bool",
    torch.complex64: "c64",
}


class _Symbols:
    """Renames shape symbols in order of appearance: s47 -> s0."""

    def __init__(self) -> None:
        self.names: dict[str, str] = {}

    def __call__(self, size: object) -> str:
        if isinstance(size, int):
            return str(size)
        return re.sub(
            r"\b[su]\d+\b", lambda found: self.names.setdefault(found.group(), f"s{len(self.names)}"), str(size)
        )


def type_text(value: object, symbol: Callable[[object], str]) -> str:
    """`f32[2,8]` for a tensor, `int` for a size, `(a, b)` for several values."""
    if isinstance(value, Tensor):
        short = _SHORT.get(value.dtype, str(value.dtype).removeprefix("torch."))
        return f"{short}[{','.join(symbol(size) for size in value.shape)}]"
    if isinstance(value, list | tuple):
        return f"({', '.join(type_text(item, symbol) for item in value)})"
    return "none" if value is None else "bool" if isinstance(value, bool | torch.SymBool) else "int"


def target_text(target: object) -> str:
    """`add.Tensor` for ATen, `fouriercache.predict` for our ops, the plain name for Python functions."""
    if isinstance(target, torch._ops.OpOverload):
        namespace, name = target.namespace, target._schema.name.split("::")[1]
        short = f"{name}.{target._overloadname}"
        return short if namespace == "aten" else f"{namespace}.{name}"
    return str(getattr(target, "__name__", target))


def _argument(value: Any, number: dict[fx.Node, str], symbol: _Symbols) -> str:
    if isinstance(value, fx.Node):
        return number[value]
    if isinstance(value, list | tuple):
        return f"[{', '.join(_argument(item, number, symbol) for item in value)}]"
    if isinstance(value, torch.SymInt):
        return symbol(value)
    return repr(value) if isinstance(value, float | str) else str(value)


def _label(node: fx.Node) -> str:
    return str(node.meta.get("block", ""))


def _graph_lines(graph: fx.Graph, inputs: tuple[str, ...], symbol: _Symbols, name: str) -> Iterator[str]:
    """Yield the text of one graph; weights stand in place as `@qualified.name`."""
    number: dict[fx.Node, str] = {}
    arguments = []
    counter, label = 0, ""
    for position, node in enumerate(graph.find_nodes(op="placeholder")):
        if "source" in node.meta:
            # A weight that is handed to a branch body.
            number[node] = f"@{node.meta['source']}"
        else:
            number[node] = f"%{counter}"
            counter += 1
        name_given = f" {inputs[position]}" if inputs else ""
        arguments.append(f"{number[node]}: {type_text(node.meta.get('val'), symbol)}{name_given}")
    yield f"{name}({', '.join(arguments)})"
    for node in graph.nodes:
        if node.op == "get_attr":
            number[node] = f"@{node.meta.get('source', node.target)}"
        elif node.op == "call_function":
            number[node] = f"%{counter}"
            counter += 1
            if _label(node) != label:
                label = _label(node)
                yield f"  # {label or 'outside the blocks'}"
            said = [_argument(value, number, symbol) for value in node.args]
            said += [f"{key}={_argument(value, number, symbol)}" for key, value in sorted(node.kwargs.items())]
            kind = type_text(node.meta.get("val"), symbol)
            yield f"  {number[node]}: {kind} = {target_text(node.target)}({', '.join(said)})"
        elif node.op == "output":
            yield f"  return {_argument(node.args[0], number, symbol)}"


def program_text(program: Program) -> str:
    """Return the text of `program`: its subgraphs, its graph, then the facts known of it."""
    symbol = _Symbols()
    lines: list[str] = []
    for name, value in sorted(program.attributes.items()):
        if isinstance(value, fx.GraphModule):
            lines += [*_graph_lines(value.graph, (), symbol, name), ""]
    names = tuple(given.name if given.role != "slot" else f"{given.name} (slot)" for given in program.inputs)
    plain = all(given.role in ("sample", "conditioning", "timestep") for given in program.inputs)
    lines += _graph_lines(program.graph, () if plain and not program.found else names, symbol, "main")
    for question, sites in sorted(program.found.items()):
        used = " in use" if program.sites and sites == program.sites else ""
        lines += ["", f"{question} sites: {len(sites)}{used}"]
        for site in sites:
            shape = ",".join(symbol(size) for size in site.shape)
            gate = " gated" if site.gated else ""
            lines.append(f"  {site.name}: {site.kind} [{shape}]{gate}")
    if program.grid is not None:
        grid = program.grid
        lines += ["", f"token grid: {grid.t} x {grid.h} x {grid.w} from token {grid.start}"]
    return "\n".join(lines) + "\n"
