"""Published FLOPs speed-ups, computed from the graphs of the full-size models: theirs, ours, why they differ."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from common import argument_parser
from results import Check, Column, Result, Row, last_rows, publish

import fouriercache as fc
from fouriercache.capture import Capture, capture
from fouriercache.cost import DEVICES
from fouriercache.errors import OptimizeError
from fouriercache.models.full_size import FULL_SIZE, build_full_size
from fouriercache.passes.pipeline import build_steps
from fouriercache.runtime.estimate import estimate_cost
from fouriercache.runtime.estimates import TrajectoryEstimate
from fouriercache.schedules import Place
from fouriercache.steps import Steps

DIT, FLUX, PIXART, OPENSORA = "dit-xl-2", "flux-dev", "pixart-xl-2", "opensora-stdit3-xl-2"
QUICK_BLOCKS = 2
CLOSE = 0.02
"""Relative difference up to which ours and theirs are called the same."""

COLUMNS = (
    Column("model", "model"),
    Column("claim", "published setting"),
    Column("source", "where"),
    Column("steps", "steps", "d"),
    Column("theirs", "theirs", ".2f"),
    Column("ours", "ours", ".2f"),
    Column("difference", "ours over theirs, %", "+.1f"),
    Column("computed", "steps that we compute", "d"),
    Column("implied", "steps that theirs implies", ".1f"),
    Column("cached", "FLOPs of a cached step, %", ".2f"),
    Column("original", "all steps uncached, TFLOPs", ".1f"),
    Column("original_theirs", "theirs", ".1f"),
    Column("why", "why they differ"),
)

ABOUT = (
    "*Theirs* is the FLOPs speed-up as printed; *ours* is `fast.report.cost` on the graph of the published model at "
    "its full size, with the schedule of the published code where it is fixed. FLOPs are two for each multiply-add. "
    "*Steps that theirs implies* is what would give their figure if a cached step cost nothing: a check of their count "
    "of steps. A cached step of less than nothing means that what depends on the prompt alone, which the original does "
    "at each step, is done once. TeaCache decides by data, which no graph has; its rows take as many computed steps "
    "as the published figure implies, and show what the graph gives for them. Where a paper prints times, not FLOPs, "
    "the row says so. Nothing of the table is typed but what was published, and the reasons."
)

SAME = "the same schedule and count"
NO_WHOLE = "no whole number of computed steps gives their figure: 18 of 50 is 2.78 at most, and their code computes 18"
RATIO = "their figure implies one or two computed steps more than our schedule has; what it is a ratio of is not said"
COUNTED = "the same number of computed steps; which they are is not said, and the count does not depend on it"
TEACACHE = "steps are decided by data; the whole stack is replaced, so a skipped step costs next to nothing in both"


@dataclass(frozen=True)
class PixArtRatio:
    """ToCa's share of fresh tokens on PixArt-alpha, the factor of MLPs: R (1.6 - 1.2 l/27)(1.9 - 1.8 i/T) 1.6."""

    needs_num_steps = True
    is_static = False

    ratio: float = 0.3

    def count(self, place: Place, step: int, num_steps: int | None) -> int:
        """Return the count of a site."""
        assert num_steps is not None
        share = self.ratio * (1.6 - 1.2 * place.layer / 27) * (1.9 - 1.8 * step / num_steps) * 1.6
        return int(min(1.0, max(0.0, share)) * place.tokens)


def pixart_steps(interval: int, steps: int) -> tuple[int, ...]:
    """Computed steps of ToCa on PixArt-alpha: every round(N / (0.8 + 0.4 i/T)) after the last one."""
    found, since = [0], 0
    for step in range(1, steps):
        since += 1
        if since >= round(interval / (0.8 + 0.4 * found[-1] / steps)):
            found.append(step)
            since = 0
    return tuple(found)


@dataclass(frozen=True)
class Claim:
    """One published figure.

    Attributes:
        theirs: None where nobody published one. method: ours for it; None where there is none.
        is_adaptive: whether steps are decided by data; as many are computed as the figure implies.
        original: TFLOPs of all steps, as printed.
    """

    model: str
    text: str
    source: str
    theirs: float | None
    method: fc.Method | None
    why: str
    steps: int = 50
    is_adaptive: bool = False
    original: float | None = None


def fora(interval: int) -> fc.Method:
    return fc.FORA(interval)


def flux_fora(interval: int) -> fc.Method:
    """As the tables of TaylorSeer's authors count it: their schedule, order 0."""
    return fc.FORA(schedule=fc.Interval(interval, warmup=3))


def claims() -> Iterator[Claim]:
    """Every FLOPs speed-up that was published for a model at hand, and for one that is not."""
    table, code = "TaylorSeer, table for DiT", "TaylorSeer, README"
    yield Claim(DIT, "FORA N=3", table, 2.77, fora(3), SAME, original=23.74)
    yield Claim(DIT, "FORA N=3", "ProCache, table", 2.76, fora(3), SAME)
    yield Claim(DIT, "FORA N=5", table, 4.53, fora(5), SAME, original=23.74)
    yield Claim(DIT, "TaylorSeer N=3, O=3", table, 2.77, fc.TaylorSeer(3, 3), SAME, original=23.74)
    yield Claim(DIT, "TaylorSeer N=4, O=4", code, 3.57, fc.TaylorSeer(4, 4), SAME)
    yield Claim(DIT, "TaylorSeer N=5, O=3", table, 4.53, fc.TaylorSeer(5, 3), SAME, original=23.74)
    for computed, every, theirs in ((8, 7, 6.2), (7, 8, 7.1)):
        method = fc.TaylorSeer(order=4, schedule=fc.Table(tuple(range(0, 50, every))))
        yield Claim(DIT, f"TaylorSeer, {computed} computed steps", "RFC, table", theirs, method, COUNTED)
    yield Claim(DIT, "TaylorSeer N=4, O=2", "hicache-plus-plus, results", 3.81, fc.TaylorSeer(4, 2), RATIO, steps=250)
    toca = (
        "attention is reused whole in both; what is left is in how many tokens are fresh, and in what is counted "
        "around the blocks"
    )
    yield Claim(DIT, "ToCa N=3, R=0.07", "ProCache, table", 2.32, fc.ToCa(3, published=True), toca)
    yield Claim(DIT, "TeaCache", "-", None, None, "nobody publishes TeaCache for DiT: there are no coefficients for it")
    paper, hyca, readme = "TaylorSeer, table for FLUX", "HyCa, table", "ToCa, README"
    whole = 3719.5
    all_three = f"{paper}; HyCa, table; {readme}"
    yield Claim(FLUX, "FORA N=3", all_three, 2.82, flux_fora(3), NO_WHOLE, original=whole)
    yield Claim(FLUX, "FORA N=6", f"{paper}; HyCa, table", 4.99, flux_fora(6), SAME, original=whole)
    yield Claim(FLUX, "TaylorSeer N=3, O=2", paper, 2.82, fc.TaylorSeer(3, 2, warmup=3), NO_WHOLE, original=whole)
    thirteen = "their figure implies 13 computed steps of 50; the published code computes 14 at N=4"
    yield Claim(FLUX, "TaylorSeer N=4, O=2", hyca, 3.84, fc.TaylorSeer(4, 2, warmup=3), thirteen, original=whole)
    yield Claim(FLUX, "TaylorSeer N=5, O=2", hyca, 4.16, fc.TaylorSeer(5, 2, warmup=3), SAME, original=whole)
    yield Claim(FLUX, "TaylorSeer N=6, O=2", paper, 4.99, fc.TaylorSeer(6, 2, warmup=3), SAME, original=whole)
    yield Claim(FLUX, "TaylorSeer N=7, O=2", hyca, 5.54, fc.TaylorSeer(7, 2, warmup=3), SAME, original=whole)
    for interval, theirs, source in (
        (4, 2.94, readme),
        (5, 3.30, readme),
        (6, 3.76, readme),
        (8, 4.74, hyca),
        (10, 5.2, hyca),
    ):
        tokens = fc.TopK(fc.TokenNorm(), 0.1)
        method = fc.ToCa(schedule=fc.Interval(interval, warmup=3), tokens=tokens)
        why = (
            "their code also computes a part of the single-stream blocks' tokens, where attention and MLP share one "
            "projection that ours reuses whole"
        )
        if source == hyca:
            why += "; their share of fresh tokens is not said, and taken to be that of ToCa's README"
        yield Claim(FLUX, f"ToCa N={interval}, R=0.1", source, theirs, method, why)
    tea = fc.TeaCache(coefficients="FLUX.1-dev")
    yield Claim(FLUX, "TeaCache, threshold 0.8", hyca, 4.17, tea, TEACACHE, is_adaptive=True, original=whole)
    yield Claim(FLUX, "TeaCache, threshold 1", hyca, 5.01, tea, TEACACHE, is_adaptive=True, original=whole)
    by_time = f"{TEACACHE}; theirs is a ratio of times"
    for threshold, theirs in ((0.25, 1.5), (0.4, 1.8), (0.6, 2.0), (0.8, 2.25)):
        name = f"TeaCache, threshold {threshold}"
        yield Claim(FLUX, name, "TeaCache, README", theirs, tea, by_time, steps=28, is_adaptive=True)
    fresh = fc.TopK(fc.AttentionEntropy(), PixArtRatio())
    why = "their code also computes cross-attention for the chosen tokens; ours reuses it whole"
    for source, theirs in (("ToCa, abstract", 1.93), ("ProCache, table", 1.77), ("ECAD, table", 2.35)):
        method = fc.ToCa(schedule=fc.Table(pixart_steps(3, 20)), tokens=fresh)
        more = "; a ratio of times, it seems" if source.startswith("ECAD") else ""
        yield Claim(PIXART, "ToCa N=3, R=0.3", source, theirs, method, why + more, steps=20)
    eight = "FORA computes 8 of 20 steps; their figure implies ten, or is a ratio of times"
    yield Claim(PIXART, "FORA N=3", "ECAD, table", 2.01, fora(3), eight, steps=20)
    cycles = fc.PerSite((3, 6, 3) * 56)  # self-attention, cross-attention, MLP of 28 spatial and 28 temporal blocks
    spread = fc.TopK(fc.TokenNorm(), 0.1 * (1 + 0.33 * 1.5))
    apart = "the cycles of their code, and its share of fresh tokens in MLPs; what theirs counts beside is not said"
    method = fc.FORA(schedule=cycles, tokens=spread)
    yield Claim(OPENSORA, "ToCa, cycles 3, 3, 6, 3, R=0.1", "ToCa, abstract", 2.36, method, apart, steps=30)
    tea = fc.TeaCache(coefficients="OpenSora-1.2")
    for name, theirs in (("slow", 1.55), ("fast", 2.25)):
        text = f"TeaCache, {name}"
        yield Claim(OPENSORA, text, "TeaCache, table", theirs, tea, by_time, steps=30, is_adaptive=True)


@cache
def captured(name: str, blocks: int | None) -> Capture:
    """The graph of a published model, without weights."""
    print(f"capturing {name}", flush=True)
    model, call = build_full_size(name, depth=blocks)
    return capture(model, call, verify=False)


@cache
def built(name: str, blocks: int | None, method: fc.Method) -> Steps:
    return build_steps(captured(name, blocks), method, FULL_SIZE[name].grid)


def evaluate(claim: Claim, blocks: int | None) -> tuple[TrajectoryEstimate | None, str]:
    """The trajectory by the cost model, and why there is none."""
    if claim.method is None:
        return None, claim.why
    computed: Sequence[int] | None = None
    if claim.is_adaptive and claim.theirs is not None:
        computed = range(round(claim.steps / claim.theirs))
    device = DEVICES["h200"]  # FLOPs are the same on all
    batch = next(iter(FULL_SIZE[claim.model].call.values())).shape[0]
    try:
        steps = built(claim.model, blocks, claim.method)
        found = estimate_cost(steps, claim.method, device, num_steps=claim.steps, computed=computed, batch=batch)
    except OptimizeError as error:
        return None, f"refused: {str(error).splitlines()[0]}"
    return found.trajectory, claim.why


def row_of(claim: Claim, blocks: int | None) -> Row:
    found, why = evaluate(claim, blocks)
    row: dict[str, Any] = {
        "model": _model_of(claim),
        "claim": claim.text,
        "source": claim.source,
        "steps": claim.steps,
        "theirs": claim.theirs,
        "ours": None,
        "difference": None,
        "computed": None,
        "implied": None if claim.theirs is None else claim.steps / claim.theirs,
        "cached": None,
        "original": None,
        "original_theirs": claim.original,
        "why": why,
    }
    if found is None:
        return row
    computed = len(found.computed)
    each = found.original.flops / found.steps
    return row | {
        "ours": found.flops_speedup,
        "difference": None if claim.theirs is None else 100 * (found.flops_speedup / claim.theirs - 1),
        "computed": computed,
        "cached": 100 * (found.cached.flops - computed * each) / ((found.steps - computed) * each),
        "original": found.original.flops / 1e12,
    }


def _model_of(claim: Claim) -> str:
    return FULL_SIZE[claim.model].what


def main() -> None:
    parser = argument_parser(__doc__, quick="DiT with two blocks, for the tests")
    parser.add_argument("--only", nargs="+", metavar="MODEL", help="count these; keep the other rows of the last run")
    asked = parser.parse_args()
    blocks = QUICK_BLOCKS if asked.quick else None
    chosen = [claim for claim in claims() if not asked.quick or claim.model == DIT]
    kept = last_rows("headlines", asked.out) if asked.only else []
    last = {(row["model"], row["claim"], row["source"]): row for row in kept}
    rows: list[Row] = []
    for claim in chosen:
        key = (_model_of(claim), claim.text, claim.source)
        is_kept = asked.only and claim.model not in asked.only and key in last
        rows.append(last[key] if is_kept else row_of(claim, blocks))
        print(f"{claim.model}, {claim.text}: theirs {claim.theirs}, ours {rows[-1]['ours']}", flush=True)
    same = [row for row in rows if row["why"] in (SAME, COUNTED) and row["difference"] is not None]
    largest = max(abs(row["difference"]) for row in same) / 100
    checks = [Check("largest relative difference where schedule and count are the same", largest, CLOSE)]
    settings = {"models": ", ".join(dict.fromkeys(claim.model for claim in chosen)), "blocks": blocks or "all"}
    title = "Published FLOPs speed-ups, theirs and ours"
    Result("headlines", title, ABOUT, settings, COLUMNS, rows, checks).write(asked.out)
    publish("headlines", asked.out)


if __name__ == "__main__":
    main()
