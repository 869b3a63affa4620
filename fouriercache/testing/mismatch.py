"""What changed between two goldens: a few sentences first, then a diff that is not too long."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping

from fouriercache.testing.golden import NOT_COMPARED, Golden, Section

_OPERATORS = "operators"
"""The part that counts calls by kind: "add.Tensor 33" in a line."""

_LONGEST_DIFF = 80
_MOST_SENTENCES = 30


class GraphMismatch(AssertionError):  # noqa: N818  # an assertion that failed, not a fault
    """Graphs are not what their golden says, or there is no golden."""


def differences(golden: Golden, now: Golden) -> list[str]:
    """Say in sentences what changed; none when nothing did."""
    if golden.compared() == now.compared():
        return []
    found = list(_changed_values("", _compared_head(golden), _compared_head(now)))
    for name in golden.sections.keys() - now.sections.keys():
        found.append(f"{name}: is gone")
    for name, section in now.sections.items():
        if name not in golden.sections:
            found.append(f"{name}: is new")
        else:
            found += _changed_section(f"{name}: ", golden.sections[name], section)
    versions = golden.head.get("made with"), now.head.get("made with")
    if versions[0] != versions[1]:
        found.append(f"the golden was made with {versions[0]}, this is {versions[1]}")
    return found or ["the order of the lines"]


def describe(golden: Golden, now: Golden, name: str, how: str) -> str:
    """Return the message of a mismatch: what changed, the diff, and how to accept it.

    Args:
        name: the golden's path. how: what makes the golden again.
    """
    sentences = differences(golden, now)
    if len(sentences) > _MOST_SENTENCES:
        sentences = [*sentences[:_MOST_SENTENCES], f"and {len(sentences) - _MOST_SENTENCES} more"]
    diff = list(_diff_lines(golden, now, name))
    shown = diff[:_LONGEST_DIFF]
    if len(diff) > len(shown):
        shown.append(f"... {len(diff) - len(shown)} more lines; after an update, git diff shows them all")
    return "\n".join(
        [
            f"The graphs are not those of {name}:",
            *(f"  {sentence}" for sentence in sentences),
            "",
            *shown,
            "",
            f"If this is meant: {how}",
        ]
    )


def _diff_lines(golden: Golden, now: Golden, name: str) -> Iterator[str]:
    """Yield a unified diff of what is compared."""
    return difflib.unified_diff(golden.compared(), now.compared(), name, "now", lineterm="", n=2)


def _compared_head(golden: Golden) -> dict[str, str]:
    return {key: value for key, value in golden.head.items() if key not in NOT_COMPARED}


def _changed_section(where: str, before: Section, now: Section) -> Iterator[str]:
    facts = _changed_values(where, before.facts, now.facts)
    changed = [sentence for sentence in facts if not sentence.startswith(f"{where}digest")]
    changed += _changed_parts(where, _by_name(before.parts), _by_name(now.parts))
    yield from changed
    if not changed and before.facts.get("digest") != now.facts.get("digest"):
        yield f"{where}digest {before.facts.get('digest')} -> {now.facts.get('digest')}, in nothing that is shown here"


def _changed_values(where: str, before: Mapping[str, str], now: Mapping[str, str]) -> Iterator[str]:
    for key in dict.fromkeys((*before, *now)):
        was, is_now = before.get(key), now.get(key)
        if was != is_now:
            yield f"{where}{key} {was or '(not said)'} -> {is_now or '(not said)'}{_difference(was, is_now)}"


def _difference(was: str | None, is_now: str | None) -> str:
    """`(+3)` for two values that begin with numbers."""
    numbers = [re.match(r"\d[\d,]*", value or "") for value in (was, is_now)]
    first, second = (int(found[0].replace(",", "")) if found else None for found in numbers)
    return "" if first is None or second is None or first == second else f" ({second - first:+,})"


def _by_name(parts: Mapping[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
    """Parts by what stands before the colon of their title; the rest of the title is a line of the part."""
    return {title.partition(": ")[0]: (title, *lines) for title, lines in parts.items()}


def _changed_parts(
    where: str, before: Mapping[str, tuple[str, ...]], now: Mapping[str, tuple[str, ...]]
) -> Iterator[str]:
    for name in before:
        if name == _OPERATORS and name in now:
            yield from _changed_operators(where, before[name], now[name])
        elif name in now and before[name] != now[name]:
            counts = len(before[name]) - 1, len(now[name]) - 1
            lines = f"{counts[0]} lines" if counts[0] == counts[1] else f"{counts[0]} -> {counts[1]} lines"
            yield f"{where}{name} reads otherwise ({lines})"
    gone, new = [name for name in before if name not in now], [name for name in now if name not in before]
    if gone:
        yield f"{where}{', '.join(gone)} {'is' if len(gone) == 1 else 'are'} gone"
    if new:
        yield f"{where}{', '.join(new)} {'is' if len(new) == 1 else 'are'} new"


def _changed_operators(where: str, before: tuple[str, ...], now: tuple[str, ...]) -> Iterator[str]:
    """`compute: calls of to.dtype 3 -> 12, add.Tensor 33 -> 29`."""
    was, is_now = (dict(line.rsplit(" ", 1) for line in lines[1:]) for lines in (before, now))
    names = sorted(name for name in {*was, *is_now} if was.get(name) != is_now.get(name))
    if names:
        yield f"{where}calls of {', '.join(f'{name} {was.get(name, 0)} -> {is_now.get(name, 0)}' for name in names)}"
