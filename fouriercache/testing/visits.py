"""The calls of a program, cut into visits: calls of one block that follow each other."""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

from torch import fx

_Content = TypeVar("_Content")


@dataclass(frozen=True)
class Place:
    """A block's path, cut into the list it stands in and its index there. What is no block has no index."""

    group: str
    index: int | None = None

    @classmethod
    def read(cls, label: str) -> Place:
        """Return the place of a block's label, which is empty for what is outside the blocks."""
        found = re.fullmatch(r"(.+)\.(\d+)", label)
        return cls(found[1], int(found[2])) if found else cls(label or "outside")

    @property
    def text(self) -> str:
        """The path."""
        return self.group if self.index is None else f"{self.group}.{self.index}"

    def follows(self, other: Place) -> bool:
        """Whether this is the block after `other` in the same list."""
        return (
            self.group == other.group
            and self.index is not None
            and other.index is not None
            and self.index == other.index + 1
        )

    def to(self, last: Place) -> str:
        """Name the blocks from this one to `last`."""
        return self.text if self == last else f"{self.text}-{last.index}"

    def shorten(self, path: str) -> str:
        """Return a path of something in this block without the block's own path: `.attention`."""
        inner = path.removeprefix(f"{self.text}.")
        return f".{inner}" if inner != path else path


@dataclass(frozen=True)
class Visit:
    """Calls of one place that follow each other; `number` counts the visits of the place, from 0."""

    place: Place
    number: int
    calls: tuple[fx.Node, ...]

    @cached_property
    def numbers(self) -> dict[fx.Node, int]:
        """The calls' numbers within the visit."""
        return {node: position for position, node in enumerate(self.calls)}


def find_visits(graph: fx.Graph) -> tuple[Visit, ...]:
    """Cut the calls of a graph into visits, in order."""
    counts: Counter[str] = Counter()
    calls = (node for node in graph.nodes if node.op == "call_function")
    found = []
    for label, run in itertools.groupby(calls, lambda node: str(node.meta.get("block", ""))):
        found.append(Visit(Place.read(label), counts[label], tuple(run)))
        counts[label] += 1
    return tuple(found)


def merge_places(items: Iterable[tuple[Place, _Content]]) -> list[tuple[Place, Place, _Content]]:
    """Return (first, last, content), one for each run of blocks that follow each other with equal content."""
    merged: list[tuple[Place, Place, _Content]] = []
    for place, content in items:
        if merged and place.follows(merged[-1][1]) and merged[-1][2] == content:
            merged[-1] = (merged[-1][0], place, content)
        else:
            merged.append((place, place, content))
    return merged


def in_rows(items: Iterable[tuple[Place, tuple[str, ...]]]) -> Iterator[str]:
    """Yield the lines of each place; blocks in a row with equal lines have them once."""
    for first, last, lines in merge_places(items):
        if first.index is None:
            yield from lines
        else:
            yield f"of {first.to(last)}:"
            yield from (f"  {line}" for line in lines)
