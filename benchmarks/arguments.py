"""What every benchmark takes on its command line. Imports nothing heavy, which `python benchmarks --list` needs not."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"


class Arguments(argparse.ArgumentParser):
    """A parser of `--quick`, for the tests, and `--out`, the folder of the results.

    Args:
        quick: what is less with `--quick`.
    """

    def __init__(
        self, description: str | None, quick: str = "tiny sizes: everything runs, no time means anything", **given: Any
    ) -> None:
        super().__init__(description=description, **given)
        self.add_argument("--quick", action="store_true", help=quick)
        self.add_argument("--out", type=Path, default=RESULTS, help="folder for the results")

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Refuse what would write over real results what measures nothing."""
        asked, rest = super().parse_known_args(args, namespace)
        if asked.quick and asked.out.resolve() == RESULTS.resolve():
            self.error("--quick measures nothing: pass --out another folder, so that no result is lost")
        return asked, rest
