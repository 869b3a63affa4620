"""What an experiment found, and how it is written down."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from .pairs import Ratio

Verdict = Literal["adopted", "optional", "refuted", "open"]


@dataclass(frozen=True)
class Table:
    """Rows under headings; `formats` says how numbers are written, by heading."""

    caption: str
    headings: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]
    formats: Mapping[str, str] = field(default_factory=dict)

    def markdown(self) -> str:
        """The table in Markdown, under its caption."""
        return f"{self.caption}\n\n{self.bare()}"

    def bare(self) -> str:
        """The table in Markdown, without its caption."""
        lines = [_line(self.headings), _line("--:" if h in self.formats else ":--" for h in self.headings)]
        for row in self.rows:
            lines.append(
                _line(_write_cell(value, self.formats.get(h, "")) for h, value in zip(self.headings, row, strict=True))
            )
        return "\n".join(lines)

    def of(self, heading: str, *words: str) -> Table:
        """The rows that have one of `words` in the column `heading`.

        Raises:
            ValueError: there is none.
        """
        column = self.headings.index(heading)
        rows = tuple(row for row in self.rows if row[column] in words)
        if not rows:
            raise ValueError(f"no row has one of {words} under {heading!r}")
        return replace(self, rows=rows)

    def without(self, heading: str) -> Table:
        """The table without one of its columns."""
        column = self.headings.index(heading)

        def cut(row: tuple[Any, ...]) -> tuple[Any, ...]:
            return (*row[:column], *row[column + 1 :])

        return replace(self, headings=cut(self.headings), rows=tuple(map(cut, self.rows)))


Series = tuple[str, Sequence[float], Sequence[float]]
"""A line of a plot: its name, x and y."""


@dataclass(frozen=True)
class Picture:
    """A plot of lines: the file's name under docs/images/evidence, title, axes, lines."""

    file: str
    title: str
    x_label: str
    y_label: str
    series: tuple[Series, ...]
    is_logarithmic: bool = False


@dataclass(frozen=True)
class Finding:
    """One hypothesis: what was compared, what decided, and the verdict.

    Attributes:
        name: "H3", say. claim: the hypothesis in a sentence. built: what in the package it was tested with.
        decided_by: the comparison that decided, in words with its number.
        pictures: plots, drawn when the page is written. commits: of the package, on which its runs were made.
    """

    name: str
    claim: str
    built: str
    verdict: Verdict
    decided_by: str
    tables: Sequence[Table] = ()
    pictures: Sequence[Picture] = ()
    notes: Sequence[str] = ()
    commits: str = ""

    def markdown(self) -> str:
        """The hypothesis' section of the page."""
        parts = [f"## {self.name}: {self.claim}", f"**{self.verdict.capitalize()}.** {self.decided_by}"]
        parts += [f"Built: {self.built}"]
        parts += [table.markdown() for table in self.tables]
        parts += [f"![{picture.title}](images/evidence/{picture.file})" for picture in self.pictures]
        parts += list(self.notes)
        return "\n\n".join(parts)


def judge(best: Ratio, *, is_default: bool) -> Verdict:
    """The verdict that a paired ratio to the honest control gives.

    "adopted" when it is part of the library's own method and closer to the uncached images, "optional" when it is
    closer and not part of it, "refuted" when it is not closer.

    Raises:
        ValueError: a part of the library's own method turned out not to help.
    """
    if best.is_smaller:
        return "adopted" if is_default else "optional"
    if is_default:
        raise ValueError(f"a default that does not help: {best}; take it out of the method, or say why it stays")
    return "refuted"


def _line(cells: Any) -> str:
    return f"| {' | '.join(map(str, cells))} |"


def _write_cell(value: Any, form: str) -> str:
    if value is None:
        return "-"
    return str(value) if isinstance(value, str | Ratio) or not form else format(value, form)
