"""The demo: sample with the shipped model, uncached and with several methods, and compare."""

from __future__ import annotations

import math
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from fouriercache.methods import Method
from fouriercache.models.demo import CALIBRATED, CLASS_NAMES, GUIDANCE, load_demo_calibration, load_demo_model
from fouriercache.optimize import optimize
from fouriercache.presets import FORA, TaylorSeer, Tuned
from fouriercache.report.data import Check, DemoReport, DemoRun, GraphFacts
from fouriercache.report.environment import describe_environment
from fouriercache.report.facts import collect_facts
from fouriercache.report.images import to_pixels
from fouriercache.report.predict import predict_loops
from fouriercache.report.sampling import Request, SamplingLoop, relative_error, take_turns
from fouriercache.report.shipping import ship
from fouriercache.runtime.module import OptimizedModule
from fouriercache.schedules import Table

_INTERVALS = (3, 5, 8)
_ORDER = 2
SITES = ("branch", "stack")
_ORIGINAL = "no cache"
PREPARING = "capture and warm up"
SHIPPING = "export, and run in ONNX Runtime"
PREDICTING = "predict by the cost model"

_ROUNDING = 1e-5
"""Prepared timesteps are embedded in one batch, which rounds other than one by one: float32, a few units a layer."""

_Notice = Callable[[str, int, int], None]
"""Called with the name of what is being done, how much of it is done, and how much there is of it."""


@dataclass(frozen=True)
class Setting:
    """A method, and how the report names its options."""

    method: Method
    text: str

    @property
    def label(self) -> str:
        """The same words as `DemoRun.label`."""
        return f"{self.method.name} {self.text}, {self.method.site}"

    def computed(self, steps: int) -> tuple[int, ...]:
        """Return the computed steps of a trajectory.

        Raises:
            ValueError: the schedule decides while it samples, so nothing is known in advance.
        """
        found = self.method.schedule.steps(steps)
        if found is None:
            raise ValueError(f"the demo needs a schedule that is known in advance, {self.method.schedule!r} is not")
        return found


def choose_settings(steps: int) -> tuple[Setting, ...]:
    """Return what the demo compares with the uncached loop of `steps` steps.

    The step tables that the demo model is shipped with are for one number of steps; at another, Tuned has intervals.
    """
    chosen = []
    for site in SITES:
        chosen += [Setting(FORA(n, site=site), f"N={n}") for n in _INTERVALS]
        chosen += [Setting(TaylorSeer(n, _ORDER, site=site), f"N={n}, O={_ORDER}") for n in _INTERVALS]
    calibrations = [load_demo_calibration(computed) for computed in CALIBRATED]
    if all(found.num_steps == steps for found in calibrations):
        tables = [Table(found.steps) for found in reversed(calibrations)]
        chosen += [Setting(Tuned(schedule=table), f"M={len(table.computed)}") for table in tables]
    else:
        chosen += [Setting(Tuned(n), f"N={n}") for n in _INTERVALS]
    return tuple(chosen)


def run_demo(
    *,
    steps: int,
    seed: int,
    command: Sequence[str],
    notice: _Notice,
    settings: Sequence[Setting] | None = None,
    bundle: Path | None = None,
) -> DemoReport:
    """Sample one image of each class with every setting, and report what came out.

    Capture and a warm-up of every module come first and are not timed; then the loops take turns.

    Args:
        command: the words that run this demo again.
        notice: told of progress.
        settings: what to compare with the uncached loop; by default `choose_settings(steps)`.
        bundle: folder to export the last of the settings to, whose loop is then run in ONNX Runtime, too; None exports
            nothing.
    """
    settings = choose_settings(steps) if settings is None else settings
    model = load_demo_model()
    request = Request.draw(classes=len(CLASS_NAMES), seed=seed, steps=steps, guidance=GUIDANCE)
    total = len(settings) + 1
    modules, graphs = [], dict[tuple[str, str], GraphFacts]()
    for done, setting in enumerate(settings):
        notice(PREPARING, done, total)
        fast = optimize(model, setting.method, num_steps=steps)
        warm_up(fast, setting.computed(steps), request)
        modules.append(fast)
        key = (setting.method.name, setting.method.site)
        if key not in graphs:
            graphs[key] = collect_facts(fast, *key)
    notice(PREPARING, len(settings), total)
    exact = check_interval_one(model, steps)
    notice(PREPARING, total, total)

    labels = [_ORIGINAL, *(setting.label for setting in settings)]
    loops = [SamplingLoop(model, request), *(SamplingLoop(fast, request, fast.prepare) for fast in modules)]
    take_turns(loops, lambda index: notice(labels[index], len(loops[index].latents), steps))
    runs = [_describe_run(None, loops[0], loops[0], 0)]
    for setting, fast, loop in zip(settings, modules, loops[1:], strict=True):
        runs.append(_describe_run(setting, loop, loops[0], fast.cache_bytes))
    shipped, compared = None, tuple[Check, ...]()
    if bundle is not None:
        notice(SHIPPING, 0, 1)
        shipped, compared = ship(modules[-1], labels[-1], request, loops[-1], bundle)
        notice(SHIPPING, 1, 1)
    notice(PREDICTING, 0, 1)
    predictions = predict_loops(modules, labels[1:], 2 * len(CLASS_NAMES))  # guided: each image is two samples
    notice(PREDICTING, 1, 1)
    return DemoReport(
        runs=tuple(runs),
        graphs=tuple(graphs.values()),
        checks=(exact, check_start(runs), check_finite(runs), *compared),
        class_names=CLASS_NAMES,
        environment=describe_environment() | {"Backend": "eager, float32"},
        seed=seed,
        guidance=GUIDANCE,
        scheduler="DDIM",
        command=shlex.join(command),
        shipped=shipped,
        predictions=predictions,
    )


def warm_up(fast: OptimizedModule, computed: Sequence[int], request: Request) -> None:
    """Sample up to and with the first reused step; forget it all.

    Then both kinds of step have been built, and the capture has been compared with the model at the request's batch.
    """
    steps = request.steps
    first_reused = next((step for step in range(steps) if step not in computed), 0)
    SamplingLoop(fast, request).advance(first_reused + 1)
    fast.reset()


def _describe_run(setting: Setting | None, loop: SamplingLoop, uncached: SamplingLoop, cache_bytes: int) -> DemoRun:
    """Compare a finished loop with the uncached one; `setting` is None for the uncached loop itself."""
    final, reference = loop.latents[-1], uncached.latents[-1]
    steps = len(loop.latents)
    return DemoRun(
        method=_ORIGINAL if setting is None else setting.method.name,
        setting="" if setting is None else setting.text,
        site="-" if setting is None else setting.method.site,
        steps=steps,
        schedule=tuple(range(steps)) if setting is None else setting.computed(steps),
        seconds=loop.seconds,
        images=to_pixels(final),
        errors=tuple(relative_error(one, other) for one, other in zip(final, reference, strict=True)),
        drift=tuple(relative_error(one, other) for one, other in zip(loop.latents, uncached.latents, strict=True)),
        cache_bytes=cache_bytes,
    )


def check_interval_one(model: torch.nn.Module, steps: int) -> Check:
    """Check on the first three steps of two images that computing every step gives the original's latents exactly."""
    request = Request.draw(classes=2, seed=0, steps=steps, guidance=GUIDANCE)
    original = SamplingLoop(model, request)
    optimised = SamplingLoop(optimize(model, FORA(1), num_steps=steps), request)
    original.advance(3)
    optimised.advance(3)
    pairs = list(zip(optimised.latents, original.latents, strict=True))
    largest = max(float((one - other).abs().max()) for one, other in pairs)
    passed = all(torch.equal(one, other) for one, other in pairs)
    detail = f"{len(pairs)} steps, largest difference {largest:g}"
    return Check("Interval 1 equals the original module bit for bit", passed, detail)


def check_start(runs: Sequence[DemoRun]) -> Check:
    """Check that each run is the uncached one up to its first reused step."""
    starts = {run.label: run.drift[: run.first_reused] for run in runs}
    wrong = [label for label, drift in starts.items() if not all(error <= _ROUNDING for error in drift)]
    largest = f"largest relative difference {max(error for drift in starts.values() for error in drift):.2g}"
    detail = largest if not wrong else f"not so for {'; '.join(wrong)}"
    return Check("Every run equals the uncached one until its first reused step", not wrong, detail)


def check_finite(runs: Sequence[DemoRun]) -> Check:
    """Check that no image holds NaN or infinity."""
    wrong = [run.label for run in runs if not all(math.isfinite(error) for error in run.errors)]
    detail = f"{sum(len(run.errors) for run in runs)} images" if not wrong else f"not so for {'; '.join(wrong)}"
    return Check("Every image is finite", not wrong, detail)


def estimate_seconds(steps: int) -> float:
    """Estimate how long the sampling takes: one call of the original is timed, reused steps count as nothing."""
    request = Request.draw(classes=len(CLASS_NAMES), seed=0, steps=2, guidance=GUIDANCE)
    loop = SamplingLoop(load_demo_model(), request)
    loop.advance(1)
    first = loop.seconds
    loop.advance(1)
    computed = steps + sum(len(setting.computed(steps)) for setting in choose_settings(steps))
    return (loop.seconds - first) * computed
