"""What each codec saves of the cache, and what it costs in the result: no time is measured.

The model of `loop.py` and the trained one that is shipped run with TaylorSeer at every branch, 13 of 50 steps computed,
once for each form in which features can be kept. Beside them: the same method by diffusers' hook, with what it holds.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import torch
from common import (
    CLASSES,
    FULL,
    QUICK,
    Denoiser,
    Inputs,
    Loop,
    Model,
    build_model,
    read_arguments,
    relative_error,
)
from curves import Curve, draw_curves
from peers import Peer, held_bytes, nothing, taylorseer_hooks
from results import Check, Column, Result, Row
from torch import Tensor

import fouriercache as fc
from fouriercache.capture import Capture, capture
from fouriercache.codecs import Codec
from fouriercache.codecs.base import Slots, StoredType
from fouriercache.models import demo
from fouriercache.optimize import optimize_captured

MOST_MEMORY, MOST_OFF = 0.5, 0.02
"""Targets: the cache over the peer's, and how far the final error may be from that of dense float32."""
KEEPS = (0.75, 0.5, 0.25, 0.1)

ABOUT = (
    "*Cache*: bytes of all kept features, scales included, over those of dense float32, and over all that diffusers' "
    "hook holds. *To uncached*: relative L2 of the final latents or images to the uncached model's. *Off from dense*: "
    "by how much that error differs from the error of dense float32. *To dense*: relative L2 to the result with dense "
    "float32, which is what the codec alone does. *Older* slots: the newest feature is kept as it is, those before it "
    "are encoded. Truncated DCT and DFT keep that share of the coefficients on the token grid. The latents of the "
    "model with random weights are not images; the shipped model is trained."
)
COLUMNS = (
    Column("model", "model"),
    Column("codec", "kept as"),
    Column("slots", "slots encoded"),
    Column("cache_mib", "cache, MiB", ".3f"),
    Column("over_dense", "over dense", ".3f"),
    Column("over_peer", "over the peer's", ".3f"),
    Column("error", "error to uncached", ".3e"),
    Column("off", "off from dense, %", ".2f"),
    Column("codec_error", "error to dense", ".2e"),
)


@dataclass(frozen=True)
class Kept:
    """A codec with its words; `family` is the line of the plot on which it lies."""

    family: str
    name: str
    codec: Codec


def list_codecs() -> Iterator[Kept]:
    """Every codec there is, dense float32 first."""
    yield Kept("dense", "dense float32", fc.Dense())
    slots: Slots
    for slots in ("all", "older"):
        suffix = "" if slots == "all" else ", older slots"
        for dtype in get_args(StoredType):
            yield Kept(f"rounded{suffix}", dtype, fc.Quantized(dtype, slots=slots))
        for basis in ("dct", "dft"):
            if basis == "dft" and slots == "older":
                continue  # the bases differ little, and less so here
            for keep in KEEPS:
                name = f"{basis.upper()}, {keep:.0%}"
                yield Kept(f"{basis.upper()}{suffix}", name, fc.LowPass(keep, basis, slots=slots))
        for keep in (0.75, 0.5):
            codec = fc.LowPass(keep, slots=slots, dtype="int8")
            yield Kept(f"DCT in int8{suffix}", f"DCT, {keep:.0%}, int8", codec)


@dataclass(frozen=True)
class Case:
    """A model with one order of TaylorSeer, and how a trajectory is run with whatever caches it."""

    name: str
    model: Model
    order: int
    steps: int
    example: dict[str, Tensor]
    run: Callable[[Denoiser, Callable[[], None]], Tensor]

    def method(self, codec: Codec) -> fc.Method:
        """TaylorSeer at every branch, on the steps that the peer's hook can follow."""
        table = fc.Table((0, *range(2, self.steps, 4)))
        return fc.TaylorSeer(order=self.order, warmup=1, site="branch", schedule=table, codec=codec)


def random_model(*, quick: bool) -> Case:
    """The model of `loop.py`."""
    shape, steps = (QUICK, 10) if quick else (FULL, 50)
    inputs = Inputs.draw(shape, steps)

    def run(model: Denoiser, begin: Callable[[], None]) -> Tensor:
        loop = Loop(model, inputs, begin)
        loop.advance(steps)
        return loop.latents

    name = f"{shape.name}, random"
    return Case(name, build_model(shape), 1, steps, inputs.call(inputs.noise, 0), run)


def trained_model(order: int) -> Case:
    """The shipped model, with guidance: one image of every class."""
    steps, labels = 50, torch.arange(CLASSES)
    noise = torch.randn(len(labels), *demo.SHAPE, generator=torch.Generator().manual_seed(1))
    scheduler = demo.load_demo_scheduler()

    def run(model: Denoiser, begin: Callable[[], None]) -> Tensor:
        def call(images: Tensor, timestep: Tensor, class_labels: Tensor) -> Any:
            return model(hidden_states=images, timestep=timestep, class_labels=class_labels)

        begin()
        called: Any = call
        return demo.sample(called, scheduler, labels, noise, num_steps=steps)

    rows = 2 * len(labels)
    example = {
        "hidden_states": torch.cat([noise, noise]),
        "timestep": torch.full((rows,), 999),
        "class_labels": torch.zeros(rows, dtype=torch.int64),
    }
    return Case(f"shipped model, order {order}", demo.load_demo_model(), order, steps, example, run)


def run_peer(case: Case) -> int:
    """What diffusers' hook holds at the end of a trajectory, in bytes."""
    peer: Peer = taylorseer_hooks(case.model, case.order)
    case.run(peer.model, peer.begin)
    return held_bytes(peer.holder)


def run_codec(case: Case, captured: Capture, kept: Kept) -> tuple[int, Tensor]:
    """The bytes of the cache, and the result."""
    fast = optimize_captured(
        case.model, captured, case.method(kept.codec), example_inputs=case.example, num_steps=case.steps
    )
    session = fast.new_session()
    result = case.run(session, session.reset)
    return session.cache_bytes, result


def rows_of(case: Case) -> list[Row]:
    """One row for each codec."""
    captured = capture(case.model, case.example)
    uncached = case.run(case.model, nothing)
    peer = run_peer(case)
    rows: list[Row] = []
    dense: tuple[int, Tensor] | None = None
    for kept in list_codecs():
        size, result = run_codec(case, captured, kept)
        dense = dense or (size, result)
        error, error_of_dense = relative_error(result, uncached), relative_error(dense[1], uncached)
        rows.append(
            {
                "model": case.name,
                "family": kept.family,
                "codec": kept.name,
                "slots": kept.codec.storage.slots,
                "cache_mib": size / 2**20,
                "over_dense": size / dense[0],
                "over_peer": size / peer,
                "error": error,
                "off": 100 * abs(error / error_of_dense - 1),
                "codec_error": relative_error(result, dense[1]),
            }
        )
        print(f"{case.name}, {kept.name}, {kept.codec.storage.slots}: {error:.3e}", flush=True)
    return rows


def judge(case: Case, rows: list[Row]) -> Iterator[Check]:
    """The least memory among codecs that are as exact as dense float32, and the least error among those that are small.

    The two may be different codecs. The first is within the limit only if one codec keeps to both.
    """
    exact = [row for row in rows if row["off"] <= 100 * MOST_OFF]
    small = [row for row in rows if row["over_peer"] <= MOST_MEMORY]
    if exact:
        least = min(exact, key=lambda row: float(row["over_peer"]))
        what = f"{case.name}: cache over the peer's with the error within {MOST_OFF:.0%} of dense: {_words(least)}"
        yield Check(what, least["over_peer"], MOST_MEMORY)
    else:
        yield Check(f"{case.name}: codecs with the error within {MOST_OFF:.0%} of dense: none", math.inf, MOST_MEMORY)
    if small:
        nearest = min(small, key=lambda row: float(row["off"]))
        what = (
            f"{case.name}: error off from dense with at most {MOST_MEMORY:.0%} of the peer's cache: {_words(nearest)}"
        )
        yield Check(what, nearest["off"] / 100, MOST_OFF)
    else:
        yield Check(f"{case.name}: codecs of at most {MOST_MEMORY:.0%} of the peer's cache: none", math.inf, MOST_OFF)


def _words(row: Row) -> str:
    return f"{row['codec']}, {row['slots']} slots"


def plot(rows: list[Row], file: Path) -> None:
    """Error of the codec alone over the share of dense float32's bytes; dense itself has none."""
    curves = []
    for model in dict.fromkeys(row["model"] for row in rows):
        mine = [row for row in rows if row["model"] == model and row["codec_error"] > 0]
        for family in dict.fromkeys(row["family"] for row in mine):
            line = sorted((row for row in mine if row["family"] == family), key=lambda row: float(row["over_dense"]))
            x = tuple(float(row["over_dense"]) for row in line)
            y = tuple(float(row["codec_error"]) for row in line)
            curves.append(Curve(f"bytes over dense float32\n{model}", family, x, y, dashed="older" in family))
    draw_curves(file, "relative L2 error to dense", curves)


def main() -> None:
    asked = read_arguments(__doc__)
    cases = [random_model(quick=asked.quick)]
    if not asked.quick:
        cases += [trained_model(order) for order in (1, 2)]
    found = [(case, rows_of(case)) for case in cases]
    rows = [row for _, part in found for row in part]
    checks = [check for case, part in found for check in judge(case, part)]
    settings = {"method": "TaylorSeer, every branch", "steps": cases[0].steps, "models": [case.name for case in cases]}
    Result("codec_curve", "Memory and error of the codecs", ABOUT, settings, COLUMNS, rows, checks).write(asked.out)
    plot(rows, asked.out / "codec_curve.svg")


if __name__ == "__main__":
    main()
