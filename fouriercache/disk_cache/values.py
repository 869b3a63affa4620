"""Arguments and fake values of graph nodes as JSON, each of its own kind: what is no plain JSON is {kind: ...}."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, fx
from torch._subclasses import FakeTensor, FakeTensorMode
from torch.fx.experimental.symbolic_shapes import ShapeEnv

from fouriercache.disk_cache.expressions import read_expression, read_symbols, write_expression, write_symbols
from fouriercache.disk_cache.reasons import NotKeptError

_TORCH: dict[str, dict[str, Any]] = {
    kind.__name__: {str(found).removeprefix("torch."): found for found in vars(torch).values() if type(found) is kind}
    for kind in (torch.dtype, torch.layout, torch.memory_format)
}
"""torch's constants by the name of their type and their own."""


class ValueWriter:
    """Writes values, and each fake tensor once: nodes whose value is one object have one object when they are read."""

    def __init__(self) -> None:
        self._tensors: list[dict[str, Any]] = []
        self._known: dict[int, int] = {}
        self._held: list[FakeTensor] = []
        self.environment: ShapeEnv | None = None

    def write(self, value: Any) -> Any:
        """Return a value as JSON; nodes as their names.

        Raises NotKeptError when it is of a kind that cannot be read back.
        """
        if value is None or type(value) in (bool, int, str):
            return value
        if type(value) is float:
            return value if math.isfinite(value) else {"float": str(value)}
        if isinstance(value, fx.Node):
            return {"node": value.name}
        if isinstance(value, tuple):
            return {"tuple": [self.write(part) for part in value]}
        if isinstance(value, list):
            return [self.write(part) for part in value]
        if isinstance(value, dict):
            return {"dict": [[self.write(key), self.write(part)] for key, part in value.items()]}
        if isinstance(value, slice):
            return {"slice": [self.write(part) for part in (value.start, value.stop, value.step)]}
        if type(value) is complex:
            return {"complex": [self.write(value.real), self.write(value.imag)]}
        if isinstance(value, torch.device):
            return {"device": str(value)}
        if type(value).__name__ in _TORCH:
            return {type(value).__name__: str(value).removeprefix("torch.")}
        if isinstance(value, torch.SymInt | torch.SymBool | torch.SymFloat):
            return {type(value).__name__: self._symbolic(value)}
        if type(value) is FakeTensor:
            return {"tensor": self._tensor(value)}
        raise NotKeptError(f"the graph holds a {type(value).__name__}")

    def tables(self) -> dict[str, Any]:
        """Return what `ValueReader` needs to know first."""
        symbols = [] if self.environment is None else write_symbols(self.environment)
        return {"symbols": symbols, "tensors": self._tensors}

    def _symbolic(self, value: Any) -> Any:
        self._note(value.node.shape_env)
        return write_expression(value.node.expr)

    def _note(self, environment: ShapeEnv | None) -> None:
        if environment is None or self.environment not in (None, environment):
            raise NotKeptError("the graph's sizes come from several traces")
        self.environment = environment

    def _tensor(self, value: FakeTensor) -> int:
        if id(value) not in self._known:
            if value.layout is not torch.strided or value.is_conj() or value.is_neg():
                raise NotKeptError(f"the graph holds a tensor of the form {value.layout}")
            if value.fake_mode.shape_env is not None:
                self._note(value.fake_mode.shape_env)
            self._known[id(value)] = len(self._tensors)
            self._held.append(value)  # or its id might come back
            offset: Any = value.storage_offset()
            self._tensors.append(
                {
                    "dtype": str(value.dtype).removeprefix("torch."),
                    "device": str(value.device),
                    "shape": [self.write(size) for size in value.shape],
                    "stride": [self.write(size) for size in value.stride()],
                    "offset": self.write(offset),
                    "requires_grad": value.requires_grad,
                }
            )
        return self._known[id(value)]


class ValueReader:
    """Reads what a `ValueWriter` wrote. Its methods raise ValueError, KeyError or TypeError for anything else.

    Attributes:
        nodes: of the graph that is being read, by name.
    """

    def __init__(self, tables: Mapping[str, Any]) -> None:
        self.environment = ShapeEnv(tracked_fakes=[], prefer_deferred_runtime_asserts_over_guards=False)
        self.mode = FakeTensorMode(shape_env=self.environment, allow_non_fake_inputs=True, export=True)
        self.symbols = read_symbols(tables["symbols"], self.environment)
        self._sizes: dict[tuple[str, str], Any] = {}
        # Symbolic sizes are slow to make a tensor of. Values of one form have one memory, which nothing asks for.
        self._metas: dict[str, Tensor] = {}
        self.nodes: Mapping[str, fx.Node] = {}
        with torch.no_grad():
            self._tensors = [self._tensor(found) for found in tables["tensors"]]

    def read(self, found: Any) -> Any:
        """Return the value of its JSON."""
        if not isinstance(found, dict):
            return [self.read(part) for part in found] if isinstance(found, list) else found
        ((kind, inner),) = found.items()
        if kind in _TORCH:
            return _TORCH[kind][inner]
        return _READERS[kind](self, inner)

    def _tensor(self, found: Mapping[str, Any]) -> Tensor:
        form = str((found["dtype"], found["shape"], found["stride"], found["offset"]))
        if form not in self._metas:
            shape, stride = ([self.read(size) for size in found[name]] for name in ("shape", "stride"))
            meta = torch.empty_strided(shape, stride, dtype=_TORCH["dtype"][found["dtype"]], device="meta")
            offset = self.read(found["offset"])
            self._metas[form] = meta if type(offset) is int and offset == 0 else meta.as_strided(shape, stride, offset)
        fake: Tensor = FakeTensor(self.mode, self._metas[form], torch.device(found["device"]))
        return fake.requires_grad_() if found["requires_grad"] else fake

    def _symbolic(self, kind: str, inner: Any) -> Any:
        key = kind, str(inner)
        if key not in self._sizes:
            expression = read_expression(inner, self.symbols)
            if kind == "SymBool":
                self._sizes[key] = self.environment.create_symboolnode(expression)
            else:
                hint = expression.xreplace(self._hints())
                make = self.environment.create_symintnode if kind == "SymInt" else self.environment.create_symfloatnode
                self._sizes[key] = make(expression, hint=int(hint) if kind == "SymInt" else float(hint))
        return self._sizes[key]

    def _hints(self) -> Any:
        new = getattr(self.environment, "backed_var_to_val", None)
        return self.environment.var_to_val if new is None else new


_READERS: dict[str, Callable[[ValueReader, Any], Any]] = {
    "node": lambda reader, inner: reader.nodes[inner],
    "tuple": lambda reader, inner: tuple(reader.read(part) for part in inner),
    "dict": lambda reader, inner: {reader.read(key): reader.read(part) for key, part in inner},
    "slice": lambda reader, inner: slice(*(reader.read(part) for part in inner)),
    "complex": lambda reader, inner: complex(*(reader.read(part) for part in inner)),
    "float": lambda _, inner: float(inner),
    "device": lambda _, inner: torch.device(inner),
    "tensor": lambda reader, inner: reader._tensors[inner],
    "SymInt": lambda reader, inner: reader._symbolic("SymInt", inner),
    "SymFloat": lambda reader, inner: reader._symbolic("SymFloat", inner),
    "SymBool": lambda reader, inner: reader._symbolic("SymBool", inner),
}
