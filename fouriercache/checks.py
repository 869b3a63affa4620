"""Checks that the dataclasses of the algebra make on their own fields; each refuses with what, where and what to do."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from difflib import get_close_matches
from itertools import pairwise
from math import inf, isfinite
from typing import cast

from .errors import MethodError


def check_whole(owner: str, field: str, value: object, *, least: int, advice: str) -> None:
    """Raise MethodError unless `value` is a plain int of at least `least`.

    A bool is refused although Python counts it as an int: `interval=True` is a slip. Integers of other libraries are
    refused because their text differs between versions, and the text of a method is part of cache keys.
    """
    if type(value) is not int:
        raise MethodError(
            f"{owner} needs {field} to be a whole number, got {value!r} of type {type(value).__name__}.\n"
            f"  where: {owner}({field}={value!r})\n"
            f"  Pass a plain Python int. {advice}"
        )
    if value < least:
        raise MethodError(
            f"{owner} needs {field} to be at least {least}, got {value}.\n  where: {owner}({field}={value})\n  {advice}"
        )


def check_number(
    owner: str,
    field: str,
    value: object,
    *,
    least: float = -inf,
    above: float = -inf,
    most: float = inf,
    advice: str,
) -> None:
    """Raise MethodError unless `value` is a finite int or float, at least `least`, more than `above`, at most `most`.

    A bool and numbers of other libraries are refused, as in `check_whole`.
    """
    if type(value) not in (int, float):
        raise MethodError(
            f"{owner} needs {field} to be a number, got {value!r} of type {type(value).__name__}.\n"
            f"  where: {owner}({field}={value!r})\n"
            f"  Pass a plain Python float. {advice}"
        )
    number = cast(float, value)
    if not (isfinite(number) and least <= number <= most and number > above):
        asked = {f"at least {least}": least != -inf, f"above {above}": above != -inf, f"at most {most}": most != inf}
        bounds = " and ".join(["finite", *(words for words, is_asked in asked.items() if is_asked)])
        raise MethodError(
            f"{owner} needs {field} to be {bounds}, got {value}.\n  where: {owner}({field}={value})\n  {advice}"
        )


def check_edges(owner: str, edges: object) -> None:
    """Raise MethodError unless `edges` is a tuple of ascending floats between 0 and 1, the ends left out."""
    advice = (
        "Edges are borders of spatial bands as shares of the largest radial frequency: edges=(0.1,) parts the lowest "
        "tenth from the rest."
    )
    if not isinstance(edges, tuple):
        raise MethodError(
            f"{owner} needs edges to be a tuple, got {edges!r} of type {type(edges).__name__}.\n"
            f"  where: {owner}(edges={edges!r})\n"
            f"  {advice}"
        )
    for index, edge in enumerate(edges):
        if type(edge) is not float or not 0 < edge < 1:
            raise MethodError(
                f"{owner} needs every edge to be a float above 0 and below 1, got {edge!r}.\n"
                f"  where: edges[{index}] of {owner}(edges={edges!r})\n"
                f"  {advice}"
            )
    if any(after <= before for before, after in pairwise(edges)):
        raise MethodError(
            f"{owner} needs edges in ascending order, each once, got {edges!r}.\n"
            f"  where: {owner}(edges={edges!r})\n"
            f"  {advice}"
        )


def check_choice(owner: str, field: str, value: object, choices: Sequence[str] | Sequence[int]) -> None:
    """Raise MethodError unless `value` is one of the words or numbers in `choices`."""
    if value not in choices:
        raise MethodError(
            f"{owner} does not know {field} {value!r}.\n"
            f"  where: {owner}({field}={value!r})\n"
            f"  Use one of {', '.join(map(repr, choices))}.{suggest(value, map(str, choices))}"
        )


def check_keywords(owner: str, given: Iterable[str], known: Collection[str]) -> None:
    """Raise MethodError when a keyword of `given` is not among `known`."""
    for keyword in given:
        if keyword not in known:
            raise MethodError(
                f"{owner} has no field {keyword!r}.\n"
                f"  where: {owner}({keyword}=...)\n"
                f"  Use {', '.join(known)}.{suggest(keyword, known)}"
            )


def suggest(word: object, known: Iterable[str]) -> str:
    """Return " Did you mean 'x'?" for the known word nearest to `word`, whatever its case, or "" if none is near."""
    by_lower_case = {name.lower(): name for name in known}
    near = get_close_matches(str(word).lower(), by_lower_case, n=1)
    return f" Did you mean {by_lower_case[near[0]]!r}?" if near else ""
