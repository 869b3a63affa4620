"""Program text as HTML: escaped, one span a token, the cache operations marked."""

from __future__ import annotations

import re
from collections.abc import Iterator

from markupsafe import Markup, escape

_TOKEN = re.compile(
    r"(?P<comment>^\s*\#.*)"
    r"|(?P<value>%[\w.]+)"
    r"|(?P<weight>@[\w.]+)"
    r"|(?P<cache>fouriercache\.\w+)"
    r"|(?P<type>\b(?:[fiu]\d+|bf16|bool|c64)\[[^\]]*\])"
    r"|(?P<keyword>^main\b|\breturn\b)"
)


def highlight(text: str) -> Markup:
    """Return `text` as HTML: every character escaped, tokens in `<span class="t-...">`, one `<span>` for each line.

    A line that calls `fouriercache.NAME` has the class `line-NAME` too, and one that reads a kept feature `line-slot`,
    so that the page can mark the whole line.
    """
    slots = set(re.findall(r"(%\d+): [^:]*? \(slot\)", text))
    return Markup("").join(_line(line, slots) for line in text.splitlines())


def _line(line: str, slots: set[str]) -> Markup:
    operation = re.search(r"fouriercache\.(\w+)", line)
    if operation:
        marked = f" line-cache line-{operation[1]}"
    elif line.startswith("  ") and slots.intersection(re.findall(r"%\d+", line)):
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


def block_text(text: str) -> tuple[str, str]:
    """Return the label of the first block of a canonical text that chooses between values, and that block's lines.

    Raises:
        ValueError: no labelled line calls `fouriercache.select`.
    """
    labelled: list[tuple[str, str]] = []
    label = ""
    for line in text.splitlines():
        if line.startswith("  # "):
            label = line[4:]
        elif not line.startswith("  "):
            label = ""
        labelled.append((label, line))
    block = next((label for label, line in labelled if label and "fouriercache.select" in line), None)
    if block is None:
        raise ValueError("the text is not of a canonical program: no block calls fouriercache.select")
    return block, "".join(f"{line}\n" for label, line in labelled if label == block)
