"""Whether a bundle computes what the module computes that it was exported from: whole loops, step by step, compared."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from os import PathLike
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from fouriercache.errors import PreconditionError
from fouriercache.load import load
from fouriercache.runtime.module import OptimizedModule

_TOLERANCES = {torch.float32: 1e-4, torch.float16: 2e-2, torch.float64: 1e-4}
"""Largest difference over the largest value. Sums in another order move float32 by some 1e-6 a step; in float16, whose
unit is 1e-3, each of some hundred operations rounds once more."""


@dataclass(frozen=True)
class Difference:
    """How far one output of a loop is from the module's own.

    Attributes:
        graphs: "a graph for each mode" or "one graph with an If". output: its place among the results. worst: the
            largest difference in any step, over the largest value in any. tolerance: what is allowed of that.
    """

    graphs: str
    output: str
    worst: float
    tolerance: float

    @property
    def is_met(self) -> bool:
        """Whether the difference is allowed; one that is not a number is not."""
        return self.worst <= self.tolerance


def compare_bundle(
    fast: OptimizedModule, folder: str | PathLike[str], inputs: Mapping[str, Any], *, num_steps: int = 50
) -> tuple[Difference, ...]:
    """Run a trajectory of `num_steps` steps in eager and in ONNX Runtime, and compare every output.

    The samples walk from one noise to another, and do not depend on what comes out, so that a step's difference is its
    own and what the kept features hand on to it.

    Args:
        fast: what was exported, on the CPU. folder: its bundle. inputs: keyword arguments of one call.

    Raises:
        PreconditionError: samples and timestep are not arguments of their own, so a trajectory cannot be made up.
        BundleError, EngineError: the bundle is broken, or cannot be run.
    """
    runs = {"a graph for each mode": load(folder)}
    if all(form.single is not None for form in runs["a graph for each mode"].manifest.forms):
        runs["one graph with an If"] = load(folder, single_graph=True)
    calls = list(_trajectory(fast, inputs, num_steps))
    want = _run(fast.new_session(), calls)
    found = []
    for graphs, bundled in runs.items():
        for number, (ours, theirs) in enumerate(zip(want, _run(bundled.new_session(), calls), strict=True)):
            scale = max(float(value.abs().amax()) for value in ours) or 1.0
            pairs = zip(theirs, ours, strict=True)
            worst = max(float((one.double() - other.double()).abs().amax()) for one, other in pairs) / scale
            found.append(Difference(graphs, f"output {number}", worst, _TOLERANCES.get(ours[0].dtype, 0.0)))
    return tuple(found)


def _run(session: Any, calls: list[dict[str, Any]]) -> list[list[Tensor]]:
    """For each tensor among the outputs, what it was at each step."""
    with torch.no_grad():
        steps = [_tensors(session(**call)) for call in calls]
    return [list(values) for values in zip(*steps, strict=True)]


def _tensors(result: Any) -> list[Tensor]:
    leaves = pytree.tree_leaves(tuple(result.values()) if isinstance(result, dict) else result)
    return [leaf for leaf in leaves if isinstance(leaf, Tensor)]


def _trajectory(fast: OptimizedModule, inputs: Mapping[str, Any], num_steps: int) -> Iterator[dict[str, Any]]:
    capture = fast.captured[0].capture
    paths = {given.name: path for given, path in zip(capture.program.inputs, capture.paths, strict=True)}
    samples = [paths[given.name] for given in capture.program.inputs if given.role == "sample"]
    stamp = next(paths[given.name] for given in capture.program.inputs if given.role == "timestep")
    if not all(isinstance(inputs.get(name), Tensor) for name in (*samples, stamp)):
        raise PreconditionError(
            f"samples and timestep are inside of other arguments ({', '.join((*samples, stamp))}), so no trajectory "
            "can be made up of one call.\n  Compare a loop of your own: fc.load(folder) is called like the model."
        )
    generator = torch.Generator().manual_seed(0)
    ends = {
        name: [torch.randn(inputs[name].shape, generator=generator).to(inputs[name].dtype) for _ in range(2)]
        for name in samples
    }
    first = inputs[stamp]
    top = max(float(first.abs().amax()), 1.0 if first.is_floating_point() else float(num_steps))
    for step in range(num_steps):
        share = step / num_steps
        level = top * (share if fast.rules.direction == "up" else 1 - share)
        if fast.rules.timesteps is not None:
            level = fast.rules.timesteps[step]  # a calibrated method takes no others
        moved = {name: begin * (1 - share) + end * share for name, (begin, end) in ends.items()}
        yield {**inputs, **moved, stamp: torch.full_like(first, level)}
