"""The plans of a bundle: one for each graph that a loaded bundle runs, beside the ONNX file it is built from."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from fouriercache.bundle.manifest import Form, Graph
from fouriercache.bundle.sizes import evaluate
from fouriercache.export.engine import Engine, Job
from fouriercache.export.tensorrt.build import build_plan
from fouriercache.export.tensorrt.facts import READABLE, plan_facts
from fouriercache.export.tensorrt.plan import Plan, Profile
from fouriercache.export.tensorrt.plan_cache import PlanCache
from fouriercache.export.tensorrt.targets import Target, target_from_name
from fouriercache.onnx_files import parse_onnx
from fouriercache.tensorrt_library import find_library

_Sizes = Mapping[str, tuple[int, int, int]]

_BATCH = "batch"
"""What a bundle's graphs call the batch."""


def plans_for(name: str, batches: Sequence[int]) -> Engine:
    """Return what builds a bundle's plans for the target called `name` and (least, typical, most) batch sizes.

    Raises:
        TargetError: there is no such target, it cannot be built for here, or the batches make no sense.
        MissingExtraError: its library is not installed.
    """
    target = target_from_name(name)
    target.check(find_library(target.flavour()), has_gpu=torch.cuda.is_available())
    profile = Profile.of(batches)

    def build(job: Job) -> dict[str, Any]:
        return build_plans(target, job, profile)

    return build


def build_plans(target: Target, job: Job, profile: Profile, cache: PlanCache | None = None) -> dict[str, Any]:
    """Build the plans of a bundle into its folder; return what its manifest is to say of them.

    That is, for each ONNX file that has one: the plan's file, what it was built with, and its facts where they can be
    read. What depends on timestep and conditioning alone may be computed for all steps in one batch, so its plan takes
    that many samples, too.

    Args:
        cache: of plans built earlier; None is the user's.

    Raises TargetError, LoweringError and MissingExtraError as `build_plan` does.
    """
    kept = PlanCache() if cache is None else cache
    found: dict[str, Any] = {}
    for form in job.forms:
        for graph, is_timed in _run_graphs(form):
            file = f"{target.folder}.{Path(graph.file).stem}.plan"
            job.notice(file)
            own = _widened(profile, job.num_steps) if is_timed else profile
            plan = build_plan(
                job.folder / graph.file,
                job.folder / file,
                target,
                profiles=[own],
                sizes={**sizes_beside(job.folder / graph.file, own), **chosen_tokens(form, graph, job.counts)},
                cache=kept,
                notice=partial(_pass_on, job.progress, file),
            )
            facts = asdict(plan_facts(job.folder / file)) if plan.version in READABLE else None
            found[graph.file] = {"file": file, "plan": _lasting(plan), "facts": facts}
    return found


def _pass_on(progress: Callable[[str, float], None], file: str, doing: str, share: float) -> None:
    del doing
    progress(file, share)


def _lasting(plan: Plan) -> dict[str, Any]:
    """What is true of the plan, and not of the day it was built."""
    return {name: value for name, value in plan.as_dict().items() if name != "seconds"}


def _run_graphs(form: Form) -> Iterator[tuple[Graph, bool]]:
    """Yield the graphs that a loaded bundle runs, and whether one is run for many timesteps at a time."""
    parts = [mode.parts for mode in form.modes] + ([form.probe.parts] if form.probe else [])
    for part in parts:
        yield from ((graph, graph is part.timed) for graph in (part.context, part.timed, part.moving) if graph)
    if form.probe is not None:
        yield form.probe.first, False


def _widened(profile: Profile, steps: int | None) -> Profile:
    """The profile, with room for all steps in one batch.

    It stays tuned for one step: that runs in every step of a trajectory, the batch of all once in a prepared one. A
    profile of its own for the batch would be tuned for it, and TensorRT-RTX holds all weights once more for each.
    """
    return replace(profile, most=profile.most * (steps or 1))


def sizes_beside(onnx: Path, profile: Profile) -> _Sizes:
    """Ranges of the sizes that follow the batch without being it, by their names in the file.

    Those are its multiples, and the sizes of inputs that torch.export knows by other names, as it does not see that
    text comes in the batch of the images: at any batch they are as large.
    """
    inputs = parse_onnx(onnx.read_bytes()).graph.input
    named = {size.dim_param for given in inputs for size in given.type.tensor_type.shape.dim} - {"", _BATCH}
    least, typical, most = profile.sizes()
    return {size: (_at(size, least), _at(size, typical), _at(size, most)) for size in sorted(named)}


def _at(size: str, batch: int) -> int:
    """The size where every dynamic one is the batch."""
    return int(evaluate(size, defaultdict(lambda: batch)))


def chosen_tokens(form: Form, graph: Graph, counts: Sequence[tuple[int, ...]]) -> _Sizes:
    """Ranges of how many tokens each site computes afresh."""
    found: dict[str, tuple[int, int, int]] = {}
    for given in graph.inputs:
        size = given.shape[0] if given.shape else 0
        if given.role == "control" and isinstance(size, str):
            site = int(given.name.removeprefix("ranks_"))
            asked = sorted({count[site] for count in counts if site < len(count) and count[site]})
            tokens = form.sites[site].tokens
            found[size] = (asked[0], asked[len(asked) // 2], asked[-1]) if asked else (1, max(1, tokens // 2), tokens)
    return found
