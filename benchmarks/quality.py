"""Quality beside speed: the trained model that is shipped, cached by us and by others, 13 of 50 steps computed.

Every row samples the same images from the same noise, by the loop of the model card (DDIM, guidance in one batch).
Where a cache can be told which steps to compute, it computes the same ones; one that decides for itself has the
threshold at which it computes as many on the uncached trajectory. Then shorter loops take turns for the time.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from common import Spread, read_arguments
from hypotheses.subjects import HELD_OUT, IMAGE_MODEL, Images
from launches import CountCalls, executed_share
from loop import Entry, computed_steps, of_peer, uncached
from peers import (
    HOOKS,
    by_hand,
    cache_dit_block,
    first_block_cache,
    mag_cache,
    pyramid_attention_broadcast,
    sea_cache,
    taylorseer_hooks,
)
from results import Check, Column, Result, Row
from thresholds import Recorded, find_first_block_threshold, find_sea_threshold
from torch import Tensor

import fouriercache as fc
from fouriercache.models import demo
from fouriercache.models.judge import Statistics, frechet_distance, load_judge
from fouriercache.report.sampling import Request, SamplingLoop, relative_error, take_turns

TIMED_IMAGES = 2
"""Images of the loops that are timed."""
SPARE = 0.75
"""Steps by which a peer may compute more: block 0 in every step is an eighth of a step here."""
NEWTON = "fouriercache Tuned, not calibrated, stack"
BRANCH = "fouriercache TaylorSeer order 1, branch"
CALIBRATED = "fouriercache Tuned, calibrated, stack"

ABOUT = (
    "The model is trained, so this compares pictures. *Error*: relative L2 of a final image to the uncached loop's, "
    "mean and largest over the images. *Frechet distance*: in the features of the shipped judge, to the uncached "
    "images and to real ones; of so few images it is biased upwards, so compare it within the table. *Computed*: "
    "attentions and MLPs that ran while the images were sampled, over those of a full step. *Time*: of a loop of "
    "{images} images over the uncached loop's in the same round, median and quartiles; the loops of a round take "
    "turns. *Kept*: what is held for one image of them, of both halves of guidance. Rows *as given* compute the same "
    "steps; the calibrated ones those that calibration chose, on other images. Ratios of MagCache are all 1, so its "
    "schedule is fixed; SeaCache's limit of 2 cached steps in a row is lifted."
)
COLUMNS = (
    Column("name", "loop"),
    Column("computed", "computed", ".2f"),
    Column("error", "error", ".4f"),
    Column("worst", "largest", ".4f"),
    Column("to_uncached", "Frechet distance", ".3f"),
    Column("to_real", "to real images", ".3f"),
    Column("ratio", "time / uncached", ".3f"),
    Column("kept_kib", "kept, KiB", ".0f"),
    Column("schedule", "schedule"),
)


def loop_of(entry: Entry, request: Request) -> SamplingLoop:
    """The sampling loop of a row; what begins a trajectory is in its time."""

    def module(latents: Tensor, **given: Tensor) -> Any:
        return entry.model(hidden_states=latents, **given)

    return SamplingLoop(module, request, lambda _: entry.begin())  # type: ignore[arg-type]  # it is only called


def of_ours(name: str, fast: fc.OptimizedModule, schedule: str) -> Entry:
    session = fast.new_session()
    return Entry(name, session, session.reset, lambda: session.cache_bytes, lambda: session.held_bytes, schedule)


def noise_level(timestep: float) -> float:
    """Where a rectified flow has as much noise for its signal as the model's own process has at a timestep."""
    signal, noise = IMAGE_MODEL.noise().levels(timestep)
    return noise / (signal + noise)


def list_entries(model: Any, recorded: Recorded, computed: Sequence[int], steps: int) -> list[Entry]:
    """Every row, the uncached one first."""
    table, count = fc.Table(computed), len(computed)
    sea = find_sea_threshold(recorded, count, noise_level)
    peers = [
        by_hand(model, computed),
        taylorseer_hooks(model),
        taylorseer_hooks(model, order=2),
        mag_cache(model, steps),
        sea_cache(model, sea, steps, 0, noise_level),
        sea_cache(model, sea, steps, 1, noise_level),
        first_block_cache(model, find_first_block_threshold(recorded, count)),
        cache_dit_block(model, computed, steps, taylor=False),
        cache_dit_block(model, computed, steps, taylor=True),
        pyramid_attention_broadcast(model),
    ]
    ours = {
        "fouriercache FORA, stack": fc.FORA(site="stack", schedule=table),
        BRANCH: fc.TaylorSeer(order=1, warmup=1, schedule=table),
        "fouriercache TaylorSeer order 2, branch": fc.TaylorSeer(order=2, warmup=1, schedule=table),
        "fouriercache FreqCa, stack": fc.FreqCa(schedule=table),
        NEWTON: fc.Tuned(schedule=table),
    }
    entries = [uncached("uncached", model), *map(of_peer, peers)]
    entries += [of_ours(name, fc.optimize(model, method, num_steps=steps), "as given") for name, method in ours.items()]
    for number in demo.CALIBRATED if steps == 50 else ():
        fast = fc.optimize(model, fc.Tuned(), num_steps=steps, calibration=demo.load_demo_calibration(number))
        entries.append(of_ours(f"{CALIBRATED}, {number} of {steps}", fast, "calibrated"))
    return entries


def sample(entry: Entry, images: Images, steps: int, layers: int) -> tuple[Tensor, float]:
    """The final images [n, 3, 32, 32] of a row, batch by batch, and how many steps it computed, on average."""
    found, computed = [], []
    for labels, noise in images.batches():
        request = Request(labels, noise, steps, images.guidance)
        loop_of(entry, request).advance(1)  # what runs at the first call of a batch is not counted
        loop = loop_of(entry, request)
        with CountCalls() as calls:
            loop.advance(steps)
        found.append(loop.latents[-1])
        computed.append(executed_share(calls, layers))
    return torch.cat(found), sum(computed) / len(computed)


def time_loops(entries: Sequence[Entry], steps: int, rounds: int) -> tuple[list[list[float]], list[int]]:
    """Seconds of every row's loop in each round, and bytes it keeps at the end of one, for each image."""
    request = Request.draw(classes=TIMED_IMAGES, seed=0, steps=steps, guidance=demo.GUIDANCE)
    seconds: list[list[float]] = [[] for _ in entries]
    for number in range(rounds + 1):
        loops = [loop_of(entry, request) for entry in entries]
        take_turns(loops, lambda _: None)
        for mine, loop in zip(seconds, loops, strict=True):
            mine += [loop.seconds] * (number > 0)  # what is made at the first call of a batch is not timed
    return seconds, [entry.kept() // TIMED_IMAGES for entry in entries]


def compare(rows: Sequence[Row], given: int) -> list[Check]:
    """Ours against the closest peer that computes no more, or as much as is given."""
    by_name = {row["name"]: row for row in rows}
    peers = [row for row in rows if row["name"] != "uncached" and "fouriercache" not in row["name"]]
    off = by_name[BRANCH]["error"] / by_name[HOOKS]["error"] - 1
    checks = [Check(f"{BRANCH}: error off from that of {HOOKS} by", abs(off), 0.02)]
    for row in (row for row in rows if row["name"].startswith((NEWTON, CALIBRATED))):
        most = max(row["computed"], given) + SPARE
        closest = min((peer for peer in peers if peer["computed"] <= most), key=lambda peer: peer["error"])
        what = f"{row['name']}: error over that of {closest['name']}, the closest peer with as few steps"
        checks.append(Check(what, row["error"] / closest["error"], 1.0))
    return checks


def main() -> None:
    asked = read_arguments(__doc__)
    steps, images, rounds = (10, Images((HELD_OUT.seeds[0],), (0, 1)), 1) if asked.quick else (50, HELD_OUT, 3)
    model, judge = demo.load_demo_model(), load_judge()
    layers, computed = len(model.transformer_blocks), computed_steps(steps)
    labels, noise = images.batches()[0]
    first = SamplingLoop(model, Request(labels, noise, steps, images.guidance))
    recorded = Recorded.of(model, lambda: first.advance(steps))
    entries = list_entries(model, recorded, computed, steps)
    sampled = [sample(entry, images, steps, layers) for entry in entries]
    seconds, kept = time_loops(entries, steps, rounds)
    reference = sampled[0][0]
    of_reference = Statistics.of(judge.measure(reference)[0])
    result = Result(
        "quality",
        f"Quality beside speed on the shipped model, {len(computed)} of {steps} steps computed",
        ABOUT.format(images=TIMED_IMAGES),
        {"model": "the shipped DiT", "sampler": "DDIM", "steps": steps, "guidance": images.guidance,
         "images": images.count, "images of timed loops": TIMED_IMAGES, "rounds": rounds, "dtype": "float32",
         "given computed steps": list(computed)},
        COLUMNS,
    )  # fmt: skip
    for entry, (found, share), mine, bytes_ in zip(entries, sampled, seconds, kept, strict=True):
        errors = [relative_error(image, other) for image, other in zip(found, reference, strict=True)]
        of_found = Statistics.of(judge.measure(found)[0])
        result.rows.append(
            {
                "name": entry.name,
                "computed": share,
                "error": sum(errors) / len(errors),
                "worst": max(errors),
                "errors": errors,
                "to_uncached": frechet_distance(of_found, of_reference),
                "to_real": frechet_distance(of_found, judge.reference),
                "ratio": Spread.of([own / base for own, base in zip(mine, seconds[0], strict=True)]).as_dict(),
                "kept_kib": bytes_ / 1024,
                "schedule": entry.schedule,
            }
        )
    result.checks += compare(result.rows, len(computed))
    result.write(asked.out)


if __name__ == "__main__":
    main()
