"""From what is typed to an optimised module: the model of a spec, captured and rewritten."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from fouriercache.bundle.manifest import MANIFEST
from fouriercache.calls import has_values
from fouriercache.capture import Capture, capture
from fouriercache.cli.asked import Asked
from fouriercache.cli.speak import say, working
from fouriercache.errors import ModelSpecError
from fouriercache.methods import Method
from fouriercache.models.examples import Example, build_example
from fouriercache.optimize import optimize, optimize_captured
from fouriercache.paths import path_of
from fouriercache.runtime.module import OptimizedModule


def find_example(spec: str) -> Example:
    """Return the model of a spec; a function of the user's is looked for in this folder, too, as Python itself does.

    Raises:
        ModelSpecError: there is no such model, or it cannot be built.
    """
    if os.path.isfile(path_of(spec) / MANIFEST):
        raise ModelSpecError(
            f"{spec} is a bundle, and no model: it was exported already.\n"
            "  Give the model it was exported from. Of a bundle: fouriercache inspect, fouriercache check, fc.load."
        )
    here = str(Path.cwd())
    if ":" in spec and here not in sys.path:
        sys.path.insert(0, here)
    with working(f"Building {spec}"):
        return build_example(spec)


def build_fast(spec: str, asked: Asked, cache_dir: Path | None) -> OptimizedModule:
    """Return the model of a spec, optimised and captured, or its capture found in `cache_dir`.

    Raises:
        OptimizeError: there is no such model, or it or the method cannot be used.
    """
    return optimize_example(spec, find_example(spec), asked, cache_dir)


def optimize_example(
    spec: str, example: Example, asked: Asked, cache_dir: Path | None, backend: str = "eager"
) -> OptimizedModule:
    """Return the model of an example, optimised and captured, or its capture found in `cache_dir`.

    Raises:
        OptimizeError: it or the method cannot be used.
    """
    with working(f"Capturing and rewriting {spec}"):
        fast = optimize(
            example.model, asked.method, num_steps=asked.steps, calibration=asked.calibration,
            example_inputs=example.inputs, grid=asked.grid or example.grid, backend=backend, cache_dir=cache_dir,
        )  # fmt: skip
    if fast.report.is_from_disk:
        say(f"The capture of {spec} comes from {cache_dir}")
    return fast


class Captures:
    """The model of the last spec, built and captured once for all methods that are asked for in a row.

    It is captured here, wherever captures are kept: what is compared with a golden is what the compiler makes now.
    """

    def __init__(self) -> None:
        self._spec = ""
        self._known: tuple[Example, Capture] | None = None

    def optimize(self, spec: str, method: Method, steps: int | None) -> OptimizedModule:
        """Return the model of a spec, optimised and captured.

        Raises:
            OptimizeError: there is no such model, or it or the method cannot be used.
        """
        if self._known is None or spec != self._spec:
            self._known = None  # one model at a time is held
            example = find_example(spec)
            with working(f"Capturing {spec}"):
                captured = capture(example.model, example.inputs, verify=has_values(example.inputs))
            self._spec, self._known = spec, (example, captured)
        example, captured = self._known
        with working(f"Rewriting {spec}"):
            return optimize_captured(
                example.model, captured, method, example_inputs=example.inputs, num_steps=steps, grid=example.grid
            )
