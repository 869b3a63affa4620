"""What a benchmark found, as a table on the terminal, JSON and Markdown. No figure is typed by hand."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from arguments import RESULTS
from summary import write_page

from fouriercache.report.environment import describe_environment, find_version, peak_memory

Row = Mapping[str, Any]
Format = str


@dataclass(frozen=True)
class Column:
    """One column of a table: the key of its values, a heading, and how a number is written.

    A value may be a spread (a dictionary with `median`, `low`, `high`): the median is shown with the quartiles behind.
    """

    key: str
    heading: str
    form: Format = ""

    def write(self, row: Row, *, with_quartiles: bool = True) -> str:
        """Return the row's value as text; what a row does not have is a dash."""
        value = row.get(self.key)
        if value is None:
            return "-"
        if isinstance(value, Mapping):
            parts = [format(value[name], self.form) for name in ("median", "low", "high")]
            return f"{parts[0]} [{parts[1]} .. {parts[2]}]" if with_quartiles else parts[0]
        if isinstance(value, bool):
            return "yes" if value else "no"
        return format(value, self.form)


@dataclass(frozen=True)
class Check:
    """A target and what was measured: met when `value <= limit`."""

    what: str
    value: float
    limit: float

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {"what": self.what, "value": self.value, "limit": self.limit, "met": self.value <= self.limit}


@dataclass
class Result:
    """What one script found.

    Attributes:
        name: of the script and of its files. about: what the rows mean, in words.
        settings: sizes and counts that were asked for. columns: what the tables show of the rows.
    """

    name: str
    title: str
    about: str
    settings: Mapping[str, Any]
    columns: Sequence[Column]
    rows: list[Row] = field(default_factory=list)
    checks: list[Check] = field(default_factory=list)

    def write(self, folder: Path) -> None:
        """Print the table, and write `<name>.json` and `<name>.md`; where results belong, the page of them all, too."""
        self.show(self.write_files(folder))
        if folder.resolve() == RESULTS.resolve():
            write_page(folder)

    def write_files(self, folder: Path) -> dict[str, Any]:
        """Write `<name>.json` and `<name>.md`, and return what the first holds."""
        folder.mkdir(parents=True, exist_ok=True)
        found = self.as_dict()
        (folder / f"{self.name}.json").write_text(json.dumps(found, indent=2) + "\n")
        (folder / f"{self.name}.md").write_text(self.as_markdown(found))
        return found

    def as_dict(self) -> dict[str, Any]:
        """Everything, with where it comes from."""
        return {
            "benchmark": self.name,
            "title": self.title,
            "about": self.about,
            "began": _START.time,
            "ended": _now(),
            "commit": _START.commit,
            "command": _command(),
            "environment": describe_environment() | {"cache-dit": find_version("cache-dit") or "not installed"},
            "load average": {"before": _START.load, "after": os.getloadavg()},
            "peak_memory": peak_memory(),
            "settings": self.settings,
            "rows": self.rows,
            "checks": [check.as_dict() for check in self.checks],
        }

    def as_markdown(self, found: Mapping[str, Any]) -> str:
        """The same for readers."""
        head = [column.heading for column in self.columns]
        rule = [":--" if not column.form else "--:" for column in self.columns]
        table = [head, rule, *([column.write(row) for column in self.columns] for row in self.rows)]
        checks = [["target", "measured", "limit", "met"], [":--", "--:", "--:", ":--"]]
        checks += [
            [check.what, f"{check.value:.4g}", f"{check.limit:.4g}", "yes" if check.value <= check.limit else "no"]
            for check in self.checks
        ]
        facts = {
            "settings": ", ".join(f"{key} {value}" for key, value in self.settings.items()),
            "began": found["began"],
            "commit": found["commit"],
            "command": f"`{found['command']}`",
            **found["environment"],
            "most memory of the process that wrote this": "not told"
            if (most := found["peak_memory"]) is None
            else f"{most / 2**20:.0f} MiB",
            "load average before, after": " and ".join(
                ", ".join(f"{value:.1f}" for value in found["load average"][when]) for when in ("before", "after")
            ),
        }
        parts = [f"# {self.title}", self.about, _lines(table)]
        if self.checks:
            parts.append(_lines(checks))
        parts.append("\n".join(f"- {key}: {value}" for key, value in facts.items()))
        parts.append(f"Written by `{found['command']}`; the whole of it is in `{self.name}.json`.")
        return "\n\n".join(parts) + "\n"

    def show(self, found: Mapping[str, Any]) -> None:
        """Print the table, with medians alone, and the checks."""
        from rich.console import Console  # here, for gpu.py runs where torch and little else is
        from rich.table import Table

        console = Console(width=max(Console().width, 140, 11 * len(self.columns)))
        table = Table(title=self.title, title_justify="left")
        for column in self.columns:
            table.add_column(column.heading, justify="right" if column.form else "left")
        for row in self.rows:
            table.add_row(*(column.write(row, with_quartiles=False) for column in self.columns))
        console.print(table)
        for check in found["checks"]:
            mark = "[green]met[/green]" if check["met"] else "[red]missed[/red]"
            console.print(f"{mark}  {check['what']}: {check['value']:.4g} (limit {check['limit']:.4g})")


def _command() -> str:
    """What was run, but for the folder of the results, which is no part of what was measured."""
    words = sys.argv[1:]
    if "--out" in words:
        place = words.index("--out")
        words = [*words[:place], *words[place + 2 :]]
    return " ".join(["python", f"benchmarks/{Path(sys.argv[0]).name}", *words])


def last_rows(name: str, folder: Path) -> list[Row]:
    """Return the rows that a benchmark's last run left in a folder; none where it has not run."""
    path = folder / f"{name}.json"
    rows: list[Row] = json.loads(path.read_text())["rows"] if path.exists() else []
    return rows


def publish(name: str, folder: Path) -> None:
    """Copy a result's Markdown into docs/, if it was written where results belong."""
    root = Path(__file__).parents[1]
    if folder.resolve() == RESULTS.resolve():
        head = f"<!-- Written by `python benchmarks/{name}.py`. Do not edit. -->\n\n"
        (root / "docs" / f"{name}.md").write_text(head + (folder / f"{name}.md").read_text())


def provenance() -> dict[str, str]:
    """When this process began, on what commit, and in what environment, for pages with a form of their own."""
    return {"began": _START.time, "ended": _now(), "commit": _START.commit, **describe_environment()}


def _lines(cells: Sequence[Sequence[str]]) -> str:
    return "\n".join(f"| {' | '.join(row)} |" for row in cells)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _commit() -> str:
    """The commit that was measured, and whether sources have changed since it."""
    root = Path(__file__).parents[1]

    def ask(*words: str) -> str:
        return subprocess.run(["git", *words], cwd=root, capture_output=True, text=True, check=True).stdout.strip()

    try:
        changed = ask("status", "--porcelain", "--", "fouriercache", "benchmarks/*.py")
        return ask("rev-parse", "HEAD") + (" with changes" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return "not in a git repository"


@dataclass(frozen=True)
class _Start:
    """What held when the script began: what was measured, and on how busy a machine."""

    time: str
    load: tuple[float, ...]
    commit: str


# Taken on import: a result is often made only when all its rows have been measured.
_START = _Start(_now(), os.getloadavg(), _commit())
