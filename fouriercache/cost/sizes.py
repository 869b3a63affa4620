"""What the dynamic sizes of a graph are: those of its capture, or others."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, TypeAlias

from fouriercache.program import Program, tensor_of

Size: TypeAlias = Callable[[Any], int]
"""From a size, a number or a symbol, to a number."""


def hinted(size: Any) -> int:
    """The number a dynamic size had in the capture; 1 for one that the data alone tell (tokens routed to an expert)."""
    if isinstance(size, int):
        return size
    hint = size.node.hint
    return 1 if hint is None else int(hint)


class Sizes:
    """Sizes of a program at another batch, or with other numbers of chosen tokens, than those of its capture.

    Args:
        given: dynamic sizes by the names of their symbols.
        programs: those whose other sizes keep the number they had in the capture.
    """

    def __init__(self, given: Mapping[str, int], *programs: Program) -> None:
        self._known: dict[str, int] = {}
        for program in programs:
            for node in program.placeholders:
                tensor = tensor_of(node)
                for size in () if tensor is None else tensor.shape:
                    if not isinstance(size, int) and size.node.expr.is_Symbol:
                        self._known[str(size.node.expr)] = hinted(size)
        self._known.update(given)

    def __call__(self, size: Any) -> int:
        """Return the number a size stands at."""
        if isinstance(size, int):
            return size
        expression = size.node.expr
        if expression.is_Symbol:
            return self._known.get(str(expression), hinted(size))
        names = sorted(map(str, expression.free_symbols))
        if not all(name in self._known for name in names):
            return hinted(size)
        return _evaluated(expression, tuple((name, self._known[name]) for name in names))


@lru_cache(maxsize=4096)  # sympy is slow, and a graph has few different expressions
def _evaluated(expression: Any, values: tuple[tuple[str, int], ...]) -> int:
    known = dict(values)
    return int(expression.subs({symbol: known[str(symbol)] for symbol in expression.free_symbols}))


def symbol_of(size: Any) -> str | None:
    """The name of a dynamic size that is a symbol of its own; None for a number or an expression."""
    if isinstance(size, int) or not size.node.expr.is_Symbol:
        return None
    return str(size.node.expr)
