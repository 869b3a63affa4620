"""Checks that the dataclasses of the algebra make on their own fields; each refuses with what, where and what to do."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from difflib import get_close_matches

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


def check_choice(owner: str, field: str, value: object, choices: Sequence[str]) -> None:
    """Raise MethodError unless `value` is one of the words in `choices`."""
    if value not in choices:
        raise MethodError(
            f"{owner} does not know {field} {value!r}.\n"
            f"  where: {owner}({field}={value!r})\n"
            f"  Use one of {', '.join(map(repr, choices))}.{suggest(value, choices)}"
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
