"""The pytest plugin: compares rewritten graphs with goldens beside the test, and makes the goldens again on request.

It stands outside the package because pytest loads it at the start of every run, also of tests that have nothing to do
with us: importing the package would cost them the seconds that torch takes, and would import it before a coverage
measurement begins, or from somewhere else than the tests do.
"""

from __future__ import annotations

import logging
import os
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from fouriercache.testing.record import Subject

_UPDATED = "updated graph golden"
"""The property of a test's report that names a golden it wrote; reports come back from other processes, too."""


class GraphGolden:
    """Compares graphs with goldens in one folder; what the fixture `graph_golden` gives.

    Attributes:
        folder: where the goldens are: `graphs` beside the test's file.
    """

    def __init__(self, request: pytest.FixtureRequest) -> None:
        self.folder: Path = request.path.parent / "graphs"
        self._node = request.node
        self._update: bool = request.config.getoption("--update-graphs")
        self._root = request.config.rootpath

    def __call__(self, subject: Subject, name: str | None = None, *, spec: str | None = None) -> None:
        """Compare, as `fouriercache.testing.assert_graph_matches` does.

        Args:
            subject: an optimised module that has been captured, one program of it, or a bundle.
            name: the golden's file name; the test's own name if not given.
            spec: how `fouriercache check` builds the model again.

        Raises:
            GraphMismatch: the graphs are not those of the golden, or there is none.
            GoldenError: the file is no golden.
        """
        __tracebackhide__ = True
        from fouriercache.testing import assert_graph_matches

        path = self.folder / (name or re.sub(r"[^\w.-]+", "-", self._node.name).strip("-") + ".txt")
        how = f"pytest {shlex.quote(self._node.nodeid)} --update-graphs"
        if assert_graph_matches(subject, path, update=self._update, spec=spec, how=how):
            shown = path.relative_to(self._root) if path.is_relative_to(self._root) else path
            self._node.user_properties.append((_UPDATED, shown.as_posix()))


@pytest.fixture
def graph_golden(request: pytest.FixtureRequest) -> Iterator[GraphGolden]:
    """Compare rewritten graphs with a golden in the folder `graphs` beside the test: `graph_golden(fast)`."""
    trace = logging.getLogger("torch.__trace")
    trace.addFilter(_is_traced)
    try:
        yield GraphGolden(request)
    finally:
        trace.removeFilter(_is_traced)


def _is_traced(record: logging.LogRecord) -> bool:
    """Whether torch's trace for machines goes to a file. Its empty lines would bury what a failed test says."""
    del record
    return "TORCH_TRACE" in os.environ


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add `--update-graphs`."""
    parser.getgroup("fouriercache").addoption(
        "--update-graphs", action="store_true", help="write the goldens of graphs anew, instead of comparing with them"
    )


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Name the goldens that were written."""
    written = sorted(set(_written(terminalreporter)))
    if written:
        terminalreporter.section("graph goldens")
        for path in written:
            terminalreporter.write_line(f"updated {path}")


def _written(terminalreporter: pytest.TerminalReporter) -> Iterator[str]:
    for reports in terminalreporter.stats.values():
        for report in reports:
            properties = getattr(report, "user_properties", ())  # a warning's report has none
            yield from (str(value) for name, value in properties if name == _UPDATED)
