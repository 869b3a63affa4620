"""Program text as HTML: escaped, one span a token, the cache operations marked."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator

from markupsafe import Markup, escape

_TOKEN = re.compile(
    r"(?P<comment>^\s*\#.*)"
    r"|(?P<value>%[\w.]+)"
    r"|(?P<weight>@[\w.]+)"
    r"|(?P<cache>fouriercache\.\w+)"
    r"|(?P<type>\b(?:[fiu]\d+|bf16|bool|c64)\[[^\]]*\])"
    r"|(?P<keyword>^main\b|\breturn\b)"
)


def highlight(text: str, slots: Collection[str]) -> Markup:
    """Return `text` as HTML: every character escaped, tokens in `<span class="t-...">`, one `<span>` for each line.

    A line that calls `fouriercache.NAME` has the class `line-NAME` too, and one that reads one of `slots`, the kept
    features, has `line-slot`, so that the page can mark the whole line.
    """
    return Markup("").join(_line(line, slots) for line in text.splitlines())


def find_slots(text: str) -> frozenset[str]:
    """Return the names of the values that a program's text declares as kept features."""
    return frozenset(re.findall(r"(%\d+): [^:]*? \(slot\)", text))


def _line(line: str, slots: Collection[str]) -> Markup:
    operation = re.search(r"fouriercache\.(\w+)", line)
    if operation:
        marked = f" line-cache line-{operation[1]}"
    elif line.startswith("  ") and any(name in slots for name in re.findall(r"%\d+", line)):
        marked = " line-cache line-slot"
    else:
        marked = ""
    return Markup('<span class="line{}">{}</span>').format(marked, Markup("").join(_tokens(line)))


def _tokens(line: str) -> Iterator[Markup]:
    end = 0
    for found in _TOKEN.finditer(line):
        yield escape(line[end : found.start()])
        yield Markup('<span class="t-{}">{}</span>').format(found.lastgroup, found[0])
        end = found.end()
    yield escape(line[end:])


def choose_block(canonical: str) -> str:
    """Return the label of the block to show of a canonical text: the shortest one that chooses between values.

    The first block also holds what all blocks share, such as the sinusoids of the timestep, so it is seldom that one.

    Raises:
        ValueError: no labelled line calls `fouriercache.select`.
    """
    blocks = _blocks(canonical)
    choosing = [label for label, lines in blocks.items() if any("fouriercache.select" in line for line in lines)]
    if not choosing:
        raise ValueError("the text is not of a canonical program: no block calls fouriercache.select")
    return min(choosing, key=lambda label: len(blocks[label]))


def block_text(text: str, block: str) -> str:
    """Return the lines of a program's text that belong to one block; none is an empty text."""
    return "".join(f"{line}\n" for line in _blocks(text).get(block, []))


def _blocks(text: str) -> dict[str, list[str]]:
    """Sort the labelled lines of a text by their label."""
    found: dict[str, list[str]] = {}
    label = ""
    for line in text.splitlines():
        if line.startswith("  # "):
            label = line.removeprefix("  # ")
        elif not line.startswith("  ") or line.startswith("  return"):
            label = ""
        elif label:
            found.setdefault(label, []).append(line)
    return found
