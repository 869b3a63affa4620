"""Dynamic sizes and the relations between them, as text that is evaluated without Python's own `eval`."""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from math import prod
from typing import Any

from fouriercache.errors import BundleError

_LONGEST = 1000
_LARGEST = 2**38
"""Elements; more than any device holds."""

_BINARY: dict[type, Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.FloorDiv: operator.floordiv,
    ast.Div: operator.truediv,
    ast.Mod: operator.mod,
}
_COMPARISONS: dict[type, Callable[[Any, Any], bool]] = {
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
}
_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "Eq": operator.eq,
    "Ne": operator.ne,
    "Mod": operator.mod,
    "PythonMod": operator.mod,
    "FloorDiv": operator.floordiv,
    "Max": max,
    "Min": min,
}
"""What sympy writes for relations of sizes."""


def evaluate(text: str, sizes: Mapping[str, int]) -> Any:
    """Return what an expression of sizes gives: `2*s0`, `s0 <= 8`, `Eq(Mod(s0, 2), 0)`.

    Raises BundleError when it is none, or a size is not known.
    """
    try:
        return _value(_parsed(text), sizes)
    except (SyntaxError, KeyError, TypeError, ZeroDivisionError, ValueError, RecursionError, MemoryError) as error:
        raise BundleError(
            f"{text[:60]!r} is no expression of the sizes {', '.join(sizes) or 'that are known'}."
        ) from error


def shape_of(shape: Sequence[int | str], sizes: Mapping[str, int]) -> tuple[int, ...]:
    """Return a shape whose dynamic sizes are known by name.

    Raises BundleError when one is not, or no tensor has such a shape.
    """
    found = tuple(size if isinstance(size, int) else int(evaluate(size, sizes)) for size in shape)
    if any(size < 0 for size in found) or prod(found) >= _LARGEST:
        raise BundleError(f"the bundle has a tensor of the shape {list(shape)}, and no tensor is {list(found)}.")
    return found


@lru_cache(maxsize=1024)
def is_evaluable(text: str, names: tuple[str, ...]) -> bool:
    """Whether `evaluate` knows everything in the text."""
    try:
        evaluate(text, dict.fromkeys(names, 2))
    except BundleError:
        return False
    return True


@lru_cache(maxsize=256)
def _parsed(text: str) -> ast.expr:
    if len(text) > _LONGEST:
        raise ValueError("too long")
    return ast.parse(text, mode="eval").body


def _value(node: ast.expr, sizes: Mapping[str, int]) -> Any:
    if isinstance(node, ast.Constant) and type(node.value) in (int, bool):
        return node.value
    if isinstance(node, ast.Name):
        return sizes[node.id]
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        return -_value(node.operand, sizes)
    if isinstance(node, ast.BinOp):
        return _BINARY[type(node.op)](_value(node.left, sizes), _value(node.right, sizes))
    if isinstance(node, ast.Compare):
        left = _value(node.left, sizes)
        for sign, operand in zip(node.ops, node.comparators, strict=True):
            right = _value(operand, sizes)
            if not _COMPARISONS[type(sign)](left, right):
                return False
            left = right
        return True
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and not node.keywords:
        return _FUNCTIONS[node.func.id](*(_value(argument, sizes) for argument in node.args))
    raise ValueError(f"{type(node).__name__} is not known")
