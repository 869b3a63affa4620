"""Every preset on the shipped model, in one table: what is computed, what it costs, what comes out."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

import fouriercache as fc
from fouriercache.models import demo
from fouriercache.models.judge import Statistics, frechet_distance, load_judge
from fouriercache.presets.registry import PRESETS
from fouriercache.report.sampling import Request, SamplingLoop, take_turns

from .finding import Table
from .h3_prediction import COMPUTED
from .ingredients import calibrated_polynomial, shipped_method, write_whole
from .lab import Lab
from .thresholds import tuned

_IMAGES = 4
"""Images of the timed loops, which take turns and are sampled anew."""
_CPU_ATTENTION = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
FORMATS = {
    "computed": ".1f", "FLOPs": ".3f", "time": ".3f", "error": ".4f", "Frechet distance": ".3f",
    "to real images": ".3f", "cache, KiB": ".0f",
}  # fmt: skip


@dataclass(frozen=True)
class Setting:
    """A method, the preset it comes from, and its options in words."""

    preset: str
    text: str
    method: fc.Method


def settings_of(lab: Lab) -> list[Setting]:
    """Every preset, with the options at which it computes about as many steps as the others."""
    noise, polynomial = lab.subject.noise(), calibrated_polynomial(lab)

    def teacache(threshold: float) -> fc.Method:
        return fc.TeaCache(threshold, polynomial)

    def seacache(threshold: float) -> fc.Method:
        return fc.SeaCache(threshold, noise=noise)

    found = [
        Setting("FORA", "interval 6", fc.FORA(6)),
        _at_threshold(lab, "TeaCache", teacache),
        Setting("ToCa", "interval 6, ratio 0.07", fc.ToCa(6)),
        Setting("TaylorSeer", "interval 6, order 2", fc.TaylorSeer(6, 2)),
        Setting("TaylorSeer", "interval 6, order 4", fc.TaylorSeer(6, 4)),
        Setting("FreqCa", "interval 6", fc.FreqCa(6)),
        Setting("HiCache", "interval 6", fc.HiCache(6)),
        _at_threshold(lab, "SeaCache", seacache),
        Setting("Spectrum", "as published", fc.Spectrum(lab.steps)),
        Setting("Tuned", "interval 6, not calibrated", fc.Tuned(6)),
        *(Setting("Tuned", f"calibrated, {m}", shipped_method(lab, m)) for m in sorted(demo.CALIBRATED, reverse=True)),
    ]
    missing = set(PRESETS) - {setting.preset for setting in found}
    if missing:
        raise ValueError(f"presets without a row: {sorted(missing)}")
    return found


def _at_threshold(lab: Lab, preset: str, build: Callable[[float], fc.Method]) -> Setting:
    method = tuned(lab, build, COMPUTED)
    schedule: Any = method.schedule
    return Setting(preset, f"threshold {schedule.threshold:.3g}", method)


def measure_presets(lab: Lab) -> Table:
    """Return the table of all presets, and of the uncached model."""
    settings = settings_of(lab)
    judge = load_judge()
    reference = lab.uncached(lab.held_out)
    of_reference = Statistics.of(judge.measure(reference)[0])
    rows: list[tuple[Any, ...]] = [
        ("none", "-", "-", lab.steps, 1.0, 1.0, 0.0, 0.0, frechet_distance(of_reference, judge.reference), 0.0)
    ]
    trials = [lab.measure(setting.method) for setting in settings]
    for setting, trial, (flops, seconds) in zip(settings, trials, _costs(lab, settings), strict=True):
        statistics = Statistics.of(judge.measure(trial.images())[0])
        rows.append(
            (
                setting.preset,
                setting.text,
                setting.method.site,
                trial.computed,
                flops,
                seconds,
                trial.mean,
                frechet_distance(statistics, of_reference),
                frechet_distance(statistics, judge.reference),
                trial.cache_bytes / 1024,
            )
        )
    caption = (
        f"{lab.held_out.count} held-out images, {lab.steps} steps of DDIM. FLOPs (of matrix products, convolutions and "
        "attention, counted as torch runs them) and time are shares of the uncached loop's; the loops were timed in "
        f"one process on {_IMAGES} images, taking turns. Error: relative L2 distance of the final image to the "
        "uncached one. Frechet distance: in the judge's features, to the uncached images of the same seeds and to real "
        f"images; of {lab.held_out.count} images it is biased upwards, so compare it within the table alone. "
        "Thresholds were set on the calibration images. A dash has not been measured yet."
    )
    headings = (
        "method", "options", "sites", "computed", "FLOPs", "time", "error", "Frechet distance", "to real images",
        "cache, KiB",
    )  # fmt: skip
    return Table(caption, headings, tuple(rows), FORMATS)


def _costs(lab: Lab, settings: Sequence[Setting]) -> list[tuple[float | None, float | None]]:
    """FLOPs and time of each method's loop over the uncached one's: as torch counts what runs, and as loops take turns.

    The FLOPs are counted where every kind of step is run for the first time, the time after that.
    """
    path = lab.folder / f"costs {lab.steps}.json"
    known = json.loads(path.read_text()) if path.is_file() else {}
    if any(repr(setting.method) not in known for setting in settings):
        if lab.only_kept:
            return [(None, None)] * len(settings)
        lab.begin(f"  timed loops, {len(settings)} methods in turns")
        request = Request.draw(classes=_IMAGES, seed=0, steps=lab.steps, guidance=demo.GUIDANCE)
        loops, flops = [SamplingLoop(lab.model, request)], [_count(lab.model, request)]
        for setting in settings:
            fast = fc.optimize(lab.model, setting.method, num_steps=lab.steps)
            SamplingLoop(fast, request).advance(1)  # captured outside of the count
            fast.reset()
            flops.append(_count(fast, request))
            fast.reset()
            loops.append(SamplingLoop(fast, request))
        take_turns(loops, lambda index: None)
        found = zip(settings, flops[1:], loops[1:], strict=True)
        known = {repr(s.method): (count / flops[0], loop.seconds / loops[0].seconds) for s, count, loop in found}
        write_whole(path, json.dumps(known))
    return [tuple(known[repr(setting.method)]) for setting in settings]


def _count(module: nn.Module, request: Request) -> int:
    counter = FlopCounterMode(display=False, custom_mapping={_CPU_ATTENTION: _attention_flops})
    with counter:
        SamplingLoop(module, request).advance(request.steps)
    return counter.get_total_flops()


def _attention_flops(query: Any, key: Any, value: Any, *_: Tensor, out_shape: Any = None, **__: Any) -> int:
    flops: int = sdpa_flop_count(query, key, value)
    return flops
