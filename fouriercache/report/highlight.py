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

    A line that calls `fouriercache.NAME` has the class `line-NAME` too, so that the page can mark the whole line.
    """
    return Markup("").join(_line(line) for line in text.splitlines())


def _line(line: str) -> Markup:
    operation = re.search(r"fouriercache\.(\w+)", line)
    marked = f" line-cache line-{operation[1]}" if operation else ""
    return Markup('<span class="line{}">{}</span>').format(marked, Markup("").join(_tokens(line)))


def _tokens(line: str) -> Iterator[Markup]:
    end = 0
    for found in _TOKEN.finditer(line):
        yield escape(line[end : found.start()])
        yield Markup('<span class="t-{}">{}</span>').format(found.lastgroup, found[0])
        end = found.end()
    yield escape(line[end:])


def block_text(text: str, block: str) -> str:
    """Return the part of a program's text that belongs to one block: its lines, and the sentence that opens the graph.

    Returns the whole text when no line is labelled with `block`.
    """
    kept: list[str] = []
    inside = False
    for line in text.splitlines():
        if line.startswith("  # "):
            inside = line[4:] == block
        elif not line.startswith("  "):
            inside = False
        if inside:
            kept.append(line)
    return "\n".join(kept) + "\n" if kept else text
