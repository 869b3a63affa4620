"""Goldens: what is known of a model's rewritten graphs, as text that people read in a diff and this module reads back.

A line of the head is `key: value`. A section begins with its name in brackets; behind it stand its facts, a line each,
then parts: a title, and under it indented lines.
"""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from fouriercache.errors import GoldenError

_VERSION = 1
_FIRST = "fouriercache graphs, version"

NOT_COMPARED = ("spec", "made with")
"""Keys of the head that say where a golden comes from, not what it says of the graphs."""


@dataclass(frozen=True)
class Section:
    """Facts by key, and parts by title: of the sites, or of one program."""

    facts: Mapping[str, str] = field(default_factory=dict)
    parts: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class Golden:
    """What a golden file holds.

    Attributes:
        head: what the graphs are of, and how they are made again.
        sections: by name, in order: "sites", then one for each program.
    """

    head: Mapping[str, str]
    sections: Mapping[str, Section]

    def text(self) -> str:
        """The whole file."""
        return "\n".join([f"{_FIRST} {_VERSION}", *_lines(self.head, self.sections)]) + "\n"

    def compared(self) -> list[str]:
        """The lines that are compared: all but where it comes from."""
        head = {key: value for key, value in self.head.items() if key not in NOT_COMPARED}
        return list(_lines(head, self.sections))

    def write(self, path: Path) -> None:
        """Write the file: the old one or the new one is there, never half of one. The folder is made if need be.

        Raises:
            GoldenError: it cannot be written.
        """
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary = path.parent / f".{path.name}.{os.getpid()}"
            try:
                temporary.write_text(self.text(), encoding="utf-8")
                temporary.replace(path)
            finally:
                temporary.unlink(missing_ok=True)
        except OSError as error:
            raise GoldenError(
                f"The golden {path} cannot be written: {error.strerror}.\n"
                "  Make room or name another file; what was there before is as it was."
            ) from error


def read_golden(path: Path) -> Golden:
    """Read a golden file.

    Raises:
        GoldenError: it is not there or cannot be read, is no golden, or is of a version that this release cannot read.
    """
    version, lines = _read(path)
    if version != _VERSION:
        raise GoldenError(
            f"{path} is of version {version}, this release reads version {_VERSION}.\n"
            f"  {_MAKE_AGAIN.format(path)} Look at the difference."
        )
    return _parse(path, lines)


def read_head(path: Path) -> dict[str, str]:
    """Read the head of a golden as far as it can be read, whatever its version and whatever became of the rest.

    Raises:
        GoldenError: it is not there or cannot be read, or is no golden.
    """
    _, lines = _read(path)
    head = itertools.takewhile(lambda line: line and not line.startswith("["), lines[1:])
    pairs = (line.partition(": ") for line in head)
    return {key: value for key, colon, value in pairs if colon}


_MAKE_AGAIN = "To make it again: fouriercache check {} --update, or update=True in the test that compares it."


def _read(path: Path) -> tuple[int, list[str]]:
    """The version and all lines of a golden."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no text"
        raise GoldenError(
            f"The golden {path} cannot be read: {reason}.\n  Give the path of a golden file, or a bundle's folder."
        ) from error
    found = re.fullmatch(rf"{_FIRST} (\d+)", lines[0]) if lines else None
    if found is None:
        raise GoldenError(
            f"{path} is no golden: its first line is not '{_FIRST} {_VERSION}'.\n"
            "  Give a file that assert_graph_matches or `fouriercache optimize --golden` wrote."
        )
    return int(found[1]), lines


def _lines(head: Mapping[str, str], sections: Mapping[str, Section]) -> Iterator[str]:
    yield from (f"{key}: {value}" for key, value in head.items())
    for name, section in sections.items():
        yield from ("", f"[{name}]")
        yield from (f"{key}: {value}" for key, value in section.facts.items())
        for title, lines in section.parts.items():
            yield title
            yield from (f"  {line}" for line in lines)


def _parse(path: Path, lines: list[str]) -> Golden:
    head: dict[str, str] = {}
    sections: dict[str, tuple[dict[str, str], dict[str, list[str]]]] = {}
    facts, parts = head, dict[str, list[str]]()
    for number, line in enumerate(lines[1:], start=2):
        below = lines[number] if number < len(lines) else ""
        key, colon, value = line.partition(": ")
        if not line:
            continue
        if line.startswith("[") and line.endswith("]"):
            facts, parts = sections.setdefault(line[1:-1], ({}, {}))
        elif line.startswith("  ") and parts:
            parts[next(reversed(parts))].append(line[2:])
        elif below.startswith("  ") and facts is not head:
            parts[line] = []
        elif colon:
            facts[key] = value
        else:
            raise GoldenError(
                f"{path} is no golden: line {number} is neither a fact nor part of a text.\n"
                f"  line: {line[:80]}\n"
                f"  Restore the file. {_MAKE_AGAIN.format(path)}"
            )
    return Golden(
        head,
        {
            name: Section(facts, {title: tuple(inner) for title, inner in parts.items()})
            for name, (facts, parts) in sections.items()
        },
    )
