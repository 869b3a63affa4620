"""Sizes as JSON: sympy expressions as trees of names and numbers, and what a shape environment knows of symbols.

torch's own text form of expressions is read by evaluating it as Python; this one is looked up, name by name.
"""

from __future__ import annotations

import re
from typing import Any

import sympy
from torch._dynamo.source import ConstantSource
from torch.fx.experimental.symbolic_shapes import DimDynamic, ShapeEnv
from torch.utils._sympy import functions
from torch.utils._sympy.numbers import int_oo
from torch.utils._sympy.value_ranges import ValueRanges

from fouriercache.disk_cache.reasons import NotKeptError

_OF_SYMPY = (
    "Add Mul Pow And Or Not Equality Unequality LessThan StrictLessThan GreaterThan StrictGreaterThan floor ceiling"
)
_OF_TORCH = (
    "FloorDiv ModularIndexing Where PythonMod Mod CleanDiv CeilToInt FloorToInt CeilDiv LShift RShift PowByNatural "
    "FloatPow FloatTrueDiv IntTrueDiv ToFloat TruncToInt TruncToFloat RoundToInt Max Min Identity"
)
_FUNCTIONS: dict[str, Any] = {
    **{name: getattr(sympy, name) for name in _OF_SYMPY.split()},
    **{name: getattr(functions, name) for name in _OF_TORCH.split() if hasattr(functions, name)},
}
_BACKED = re.compile(r"s\d+")
"""Names of sizes that an input has. Those of values that only a run tells begin with u."""


def write_expression(expression: Any) -> Any:
    """Return an expression as JSON: a number, a symbol's name, None for infinity, or [function, argument, ...].

    Raises NotKeptError when there is something in it that cannot be read back.
    """
    if expression is sympy.true or expression is sympy.false:
        return bool(expression)
    if expression is int_oo:
        return None
    if isinstance(expression, sympy.Integer):
        return int(expression)
    if isinstance(expression, sympy.Symbol):
        if not _BACKED.fullmatch(expression.name):
            raise NotKeptError(f"the size {expression} is told by a run alone")
        return expression.name
    if isinstance(expression, sympy.Rational):
        return ["Rational", int(expression.p), int(expression.q)]
    name = type(expression).__name__
    if _FUNCTIONS.get(name) is not type(expression):
        raise NotKeptError(f"a size holds {name}, in {expression}")
    return [name, *map(write_expression, expression.args)]


def read_expression(found: Any, symbols: dict[str, sympy.Symbol]) -> Any:
    """Return the expression of what `write_expression` wrote.

    Raises ValueError when it is no such thing.
    """
    if found is None:
        return int_oo
    if isinstance(found, bool):
        return sympy.true if found else sympy.false
    if isinstance(found, int):
        return sympy.Integer(found)
    if isinstance(found, str):
        return symbols[found]
    name, *rest = found
    arguments = [read_expression(part, symbols) for part in rest]
    return sympy.Rational(*arguments) if name == "Rational" else _FUNCTIONS[name](*arguments)


def write_symbols(environment: ShapeEnv) -> list[dict[str, Any]]:
    """Return the sizes of inputs, in the order torch made them: where each comes from, what it was, what it may be."""
    found = []
    for symbol, value in _values(environment).items():
        source = environment.var_to_sources[symbol][0].name
        allowed = environment.var_to_range[symbol]
        found.append(
            {
                "name": write_expression(symbol),
                "source": source() if callable(source) else source,  # a method before torch 2.12
                "value": int(value),
                "positive": symbol.is_positive,
                "range": [_bound(allowed.lower), _bound(allowed.upper)],
            }
        )
    return found


def read_symbols(found: list[dict[str, Any]], environment: ShapeEnv) -> dict[str, sympy.Symbol]:
    """Tell a new environment of the sizes that `write_symbols` wrote; return them by name.

    Raises ValueError when torch gives one another name: it makes names of the sources, in order.
    """
    symbols: dict[str, sympy.Symbol] = {}
    for known in found:
        source = ConstantSource(known["source"])
        symbol = environment.create_symbol(
            known["value"], source, DimDynamic.DYNAMIC, positive=known["positive"], do_not_specialize_zero_one=True
        )
        if str(symbol) != known["name"]:
            raise ValueError(f"the size {known['name']} is called {symbol} here")
        lower, upper = (int_oo if bound is None else sympy.Integer(bound) for bound in known["range"])
        environment.var_to_range[symbol] = ValueRanges(lower, upper)
        symbols[known["name"]] = symbol
    return symbols


def _values(environment: ShapeEnv) -> dict[sympy.Symbol, sympy.Integer]:
    """The sizes that symbols had when they were traced; torch renamed this after 2.11."""
    new = getattr(environment, "backed_var_to_val", None)
    found: dict[sympy.Symbol, sympy.Integer] = environment.var_to_val if new is None else new
    return found


def _bound(value: Any) -> int | None:
    """A bound of a range as JSON; None for infinity."""
    if value is int_oo:
        return None
    if not isinstance(value, sympy.Integer):
        raise NotKeptError(f"a size has the bound {value}")
    return int(value)
