"""Methods as text: what a golden says its graphs were made for becomes the method again."""

from __future__ import annotations

import ast
from typing import Any

import fouriercache
from fouriercache.errors import GoldenError, MethodError
from fouriercache.methods import Method


def method_from_text(text: str) -> Method:
    """Build the method that a text describes: calls of what the package lists, with plain values.

    Nothing else of Python is understood, so nothing else can be run.

    Raises:
        GoldenError: the text is no such call, or does not make a method.
        MethodError: a value makes no sense.
    """
    try:
        made = _value(ast.parse(text, mode="eval").body)
    except MethodError:
        raise
    except (SyntaxError, ValueError, TypeError, RecursionError) as error:
        raise GoldenError(f"The method cannot be read: {error}\n  text: {text}\n  {_ADVICE}") from error
    if not isinstance(made, Method):
        raise GoldenError(f"The text does not describe a method.\n  text: {text}\n  {_ADVICE}")
    return made


def value_from_text(text: str) -> Any:
    """Return the value that a text describes: plain, or a call of what the package lists with plain values.

    Raises SyntaxError, ValueError, TypeError or RecursionError when it is neither, MethodError when it makes no sense.
    """
    return _value(ast.parse(text.strip(), mode="eval").body)


_ADVICE = "Write it as repr() shows it, or as a preset: TaylorSeer(interval=5)."


def _value(node: ast.expr) -> Any:
    match node:
        case ast.Call(func=ast.Name(id=name), args=args, keywords=keywords):
            if name == "frozenset":
                return frozenset(*map(_value, args))
            if name not in fouriercache.__all__ or not name[:1].isupper():
                raise ValueError(f"{name!r} is no part of a method")
            named = {str(keyword.arg): _value(keyword.value) for keyword in keywords}
            return getattr(fouriercache, name)(*map(_value, args), **named)
        case ast.Tuple(elts=items):
            return tuple(map(_value, items))
        case ast.List(elts=items):
            return [_value(item) for item in items]
        case ast.Dict(keys=keys, values=values) if None not in keys:
            return {_value(key): _value(value) for key, value in zip(keys, values, strict=True) if key is not None}
        case _:
            return ast.literal_eval(node)
