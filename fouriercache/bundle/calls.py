"""How calls of the model look: parameters, the tensors and constants of a call, the type of what it returns."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils import _pytree as pytree

from fouriercache.bundle.plain import to_plain
from fouriercache.bundle.sizes import evaluate, is_evaluable
from fouriercache.calls import Call
from fouriercache.capture import Capture
from fouriercache.errors import BundleError
from fouriercache.program import Role

_KINDS = {kind.name.lower(): kind for kind in inspect._ParameterKind}


@dataclass(frozen=True)
class Parameter:
    """One parameter of the model's forward; `default` is there if it has one that is plain data."""

    name: str
    kind: str
    has_default: bool
    default: str | int | float | bool | None


def parameters_of(signature: inspect.Signature) -> tuple[Parameter, ...]:
    """Return the parameters of a signature; a default that is no plain data is left out, so it has to be given."""
    found = []
    for name, parameter in signature.parameters.items():
        is_plain = parameter.default is None or type(parameter.default) in (str, int, float, bool)
        default = parameter.default if is_plain else None
        found.append(Parameter(name, parameter.kind.name.lower(), is_plain, default))
    return tuple(found)


def signature_of(parameters: Sequence[Parameter]) -> inspect.Signature:
    """Return the signature that has these parameters.

    Raises BundleError when there is none such.
    """
    try:
        return inspect.Signature(
            [
                inspect.Parameter(
                    p.name, _KINDS[p.kind], default=p.default if p.has_default else inspect.Parameter.empty
                )
                for p in parameters
            ]
        )
    except (KeyError, ValueError) as error:
        raise BundleError(f"the bundle's call signature makes no sense: {error}.") from error


@dataclass(frozen=True)
class _TensorForm:
    """A tensor of a call: how it is reached there, the graphs' input that takes it, its dtype, and its sizes; a name
    stands for a dynamic one.
    """

    path: str
    name: str
    role: Role
    dtype: str
    shape: tuple[int | str, ...]


@dataclass(frozen=True)
class CallForm:
    """The calls that one set of graphs serves.

    Attributes:
        key: nesting, constants and torch.autocast of the call, which the graphs have built in.
        tensors: in the order of the graphs' first inputs. least_batch: the smallest dynamic size that is served.
        guards: relations of the dynamic sizes that must hold.
    """

    key: tuple[tuple[str, ...], ...]
    tensors: tuple[_TensorForm, ...]
    least_batch: int
    guards: tuple[str, ...]

    def sizes(self, call: Call) -> tuple[int, ...] | None:
        """Return the call's dynamic sizes in order of first use; None when the graphs were not made for such a call."""
        if _plain_key(call.key) != self.key or len(call.tensors) != len(self.tensors):
            return None
        found: dict[str, int] = {}
        for tensor, form in zip(call.tensors, self.tensors, strict=True):
            if name_of(tensor.dtype) != form.dtype or tensor.ndim != len(form.shape):
                return None
            for size, wanted in zip(tensor.shape, form.shape, strict=True):
                if isinstance(wanted, str):
                    if size < self.least_batch or found.setdefault(wanted, size) != size:
                        return None
                elif size != wanted:
                    return None
        return tuple(found.values()) if all(evaluate(guard, found) for guard in self.guards) else None

    def other_constants(self, call: Call) -> list[str]:
        """Say which constants of a call, nesting and torch.autocast among them, are not those that the graphs have."""
        own, given = _constants(self.key), _constants(_plain_key(call.key))
        names = [name for name in own | given if own.get(name) != given.get(name)]
        return [f"with {name} {_said(own.get(name))}; the call has it {_said(given.get(name))}" for name in names]

    def __str__(self) -> str:
        said = ", ".join(f"{form.path} {form.dtype}{list(form.shape)}" for form in self.tensors)
        return said if self.least_batch == 1 else f"{said}, named sizes from {self.least_batch} on"


def form_of_capture(capture: Capture, names: Mapping[str, str], least_batch: int) -> CallForm:
    """Return the calls that a capture serves, the dynamic sizes under the names they have in the graphs.

    Args:
        names: of dynamic sizes, by what the capture calls them. least_batch: the smallest of them that is served.

    Raises:
        BundleError: a relation of sizes cannot be written down.
    """
    sizes = [[names.get(size, size) if isinstance(size, str) else size for size in shape] for shape in capture.shapes]
    known = {size for shape in sizes for size in shape if isinstance(size, str)}
    guards = []
    for guard in capture.guards:
        symbols = {str(symbol) for symbol in guard.free_symbols}
        if not {names.get(symbol, symbol) for symbol in symbols} <= known:
            continue  # of a size that no input has: says nothing of a call
        if str(getattr(guard, "rhs", "")) in ("oo", "int_oo"):
            continue  # at most infinity
        text = str(guard.xreplace({s: type(s)(names.get(str(s), str(s)), integer=True) for s in guard.free_symbols}))
        if not is_evaluable(text, tuple(sorted(known))):
            raise BundleError(
                f"torch.export tied the sizes of this model together in a way that a bundle cannot say: {text}.\n"
                "  Capture at a fixed batch: call the model with another batch size at each call's form."
            )
        guards.append(text)
    tensors = tuple(
        _TensorForm(path, given.name, given.role, name_of(dtype), tuple(shape))
        for path, given, dtype, shape in zip(capture.paths, capture.program.inputs, capture.dtypes, sizes, strict=True)
    )
    return CallForm(_plain_key(capture.key), tensors, least_batch, tuple(guards))


def _plain_key(key: Sequence[Any]) -> tuple[tuple[str, ...], ...]:
    """Return a call's key as text: two calls are alike in it if and only if they are alike in the key."""
    return tuple(_plain_entry(entry) for entry in key)


def _plain_entry(entry: Any) -> tuple[str, ...]:
    if isinstance(entry, str):
        return ("tensor", entry)
    return tuple(part.__name__ if isinstance(part, type) else str(part) for part in entry)


def _constants(key: Sequence[tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
    """What a key says of all that is no tensor: type and value by path, or the nesting of an argument."""
    return {entry[0]: entry[1:] for entry in key if entry[0] != "tensor"}


def _said(what: Sequence[str] | None) -> str:
    return "left out" if what is None else f"= {what[-1] if len(what[-1]) <= 80 else what[-1][:77] + '...'}"


def name_of(dtype: torch.dtype) -> str:
    """`float32` for torch.float32."""
    return str(dtype).removeprefix("torch.")


def dtype_of(name: str) -> torch.dtype:
    """Return the dtype of that name.

    Raises BundleError when there is none.
    """
    found = getattr(torch, name, None)
    if not isinstance(found, torch.dtype):
        raise BundleError(f"the bundle has a tensor of the dtype {name!r}, which torch does not know.")
    return found


@dataclass(frozen=True)
class OutputTree:
    """What the model returns: "leaf" is the next result, "constant" the `value`; "tuple", "list", "dict" and "output"
    hold `parts`, the last two under `names`; "output" is a class like those of diffusers, of the name `type`.
    """

    kind: str
    type: str = ""
    names: tuple[str, ...] = ()
    parts: tuple[OutputTree, ...] = ()
    value: str | int | float | bool | None = None


def output_tree(capture: Capture) -> OutputTree:
    """Describe what the captured model returns.

    Raises BundleError when it is of a type that cannot be built again from data.
    """
    constants = iter(range(capture.out_spec.num_leaves))

    def describe(spec: pytree.TreeSpec) -> OutputTree:
        if spec.is_leaf():
            position = next(constants)
            if position in capture.constants:
                return OutputTree("constant", value=to_plain(capture.constants[position]))
            return OutputTree("leaf")
        parts = tuple(describe(child) for child in spec.children())
        if spec.type in (tuple, list):
            return OutputTree(spec.type.__name__, parts=parts)
        if isinstance(spec.context, list) and all(isinstance(name, str) for name in spec.context):
            kind = "dict" if spec.type is dict else "output"
            return OutputTree(kind, f"{spec.type.__module__}.{spec.type.__qualname__}", tuple(spec.context), parts)
        raise BundleError(
            f"the model returns a {spec.type.__qualname__}, which a bundle cannot build again.\n"
            "  Return a tensor, a tuple, a list, a dict, or a class like those of diffusers."
        )

    return describe(capture.out_spec)
