"""One command for all benchmarks: list them, run some or all, and say which targets are met.

`python benchmarks` runs everything that needs no GPU; `python benchmarks loop step_cost` runs two. One that fails is
named at the end, and the others run all the same. A target that is missed is a finding, not a failure.
"""

from __future__ import annotations

import ast
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from arguments import Arguments
from rich.console import Console
from rich.table import Table
from summary import OTHERS, QUESTIONS, Found, minutes, read_results, targets, write_page

HERE = Path(__file__).parent
APART = frozenset({"gpu"})
"""Run by name alone: it needs a GPU."""


def list_scripts() -> dict[str, Path]:
    """What can be run, by name."""
    paths = sorted(path for path in HERE.glob("*.py") if not path.stem.startswith("_"))
    return {path.stem: path for path in paths if 'if __name__ == "__main__"' in path.read_text()}


def what_it_measures(path: Path) -> str:
    """The first sentence of a script."""
    said = ast.get_docstring(ast.parse(path.read_text())) or ""
    return " ".join(said.split("\n\n")[0].split())


def show_list(scripts: Mapping[str, Path], results: Mapping[str, Found]) -> None:
    """What there is, what it measures, and how long its last run took."""
    table = Table(title="Benchmarks", title_justify="left")
    for heading in ("name", "measures", "minutes, last run", "began", "targets met"):
        table.add_column(heading, justify="right" if heading.startswith("minutes") else "left")
    for name, path in scripts.items():
        found = results.get(name)
        last = ("-", "never", "-")
        if found is not None:
            met = sum(check["met"] for check in found["checks"])
            last = (f"{minutes(found):.1f}", found["began"][:10], f"{met} of {len(found['checks'])}")
        table.add_row(name, what_it_measures(path), *last)
    _console().print(table)


def show_targets(results: Mapping[str, Found]) -> None:
    """Every target of speed, memory and cost, and of all else those that are missed."""
    table = Table(title="Targets", title_justify="left")
    for heading in ("benchmark", "target", "measured", "limit", "met", "commit"):
        table.add_column(heading, justify="right" if heading in ("measured", "limit") else "left")
    every = list(targets(results))
    asked = None
    for target in every:
        if target.question != asked:
            asked = target.question
            table.add_section()
            table.add_row("", f"[bold]{asked}[/bold]")
        if target.question != OTHERS or not target.is_met:
            mark = "[green]yes[/green]" if target.is_met else "[red]no[/red]"
            figures = (f"{target.value:.4g}", f"{target.limit:.4g}")
            table.add_row(target.benchmark, target.what, *figures, mark, target.commit)
    console = _console()
    console.print(table)
    for name in (name for names in QUESTIONS.values() for name in names if name not in results):
        console.print(f"{name}: not measured")
    console.print(f"{sum(target.is_met for target in every)} of {len(every)} targets are met")


def run_all(scripts: Mapping[str, Path], words: Sequence[str]) -> list[str]:
    """Run one after the other; return the names of those that failed."""
    failed = []
    for name, path in scripts.items():
        print(f"== {name}: {what_it_measures(path)}", flush=True)
        began = time.monotonic()
        status = subprocess.run([sys.executable, str(path), *words], check=False).returncode
        print(f"== {name}: {'done' if status == 0 else f'failed with {status}'}, {time.monotonic() - began:.0f} s")
        if status != 0:
            failed.append(name)
    return failed


def _console() -> Console:
    return Console(width=max(Console().width, 150))


def main() -> None:
    parser = Arguments(__doc__.split("\n\n")[0] if __doc__ else "", prog="python benchmarks")
    scripts = list_scripts()
    parser.add_argument("names", nargs="*", metavar="NAME", help="what to run; everything that needs no GPU otherwise")
    parser.add_argument("--list", action="store_true", help="say what there is, and how long it takes")
    parser.add_argument("--summary", action="store_true", help="run nothing: write the page and the plots anew")
    asked = parser.parse_args()
    unknown = [name for name in asked.names if name not in scripts]
    if unknown:
        parser.error(f"there is no {', '.join(unknown)}; there are {', '.join(scripts)}")
    if asked.list:
        show_list(scripts, read_results(asked.out))
        return
    failed: list[str] = []
    if not asked.summary:
        names = asked.names or [name for name in scripts if name not in APART]
        words = ["--out", str(asked.out), *(["--quick"] if asked.quick else [])]
        failed = run_all({name: scripts[name] for name in names}, words)
    asked.out.mkdir(parents=True, exist_ok=True)
    write_page(asked.out)
    show_targets(read_results(asked.out))
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
