"""H5: a 3-D Fourier transform helps for video."""

from __future__ import annotations

import json
from dataclasses import dataclass

import fouriercache as fc
from fouriercache.codecs import Codec
from fouriercache.predictors import Predictor

from .finding import Finding, Table, Verdict
from .ingredients import EDGES, fitted_scalars
from .lab import Lab, Trial, uniform
from .pairs import Ratio, paired_ratio
from .subjects import VIDEO_MODEL, VIDEOS
from .video_kernels import check_kernels

COMPUTED = 10
FLAT, DEEP = fc.LowPass(1.0, "frame_dct"), fc.LowPass(1.0, "dct")
"""Every coefficient is kept: what differs is the transform that bands are cut from."""
FLAT_KEEPS, DEEP_KEEPS = (0.25, 0.44, 0.69), (0.25, 0.44)
"""Shares of the coefficients. Boxes of whole numbers a side have other sizes in 2-D and in 3-D: 2-D ones lie around."""


@dataclass(frozen=True)
class _Pair:
    """The same method with the transform of space and time, and with that of each frame; and without a transform.

    `flat` keeps no fewer bytes than `deep`, `less` no more: one and the same where they are equal.
    """

    kind: str
    site: str
    words: str
    deep: Trial
    flat: Trial
    less: Trial
    plain: Trial

    @property
    def ratio(self) -> Ratio:
        """3-D over 2-D of no fewer bytes, video by video."""
        return paired_ratio(self.deep.errors, self.flat.errors)

    @property
    def to_less(self) -> Ratio:
        """3-D over 2-D of no more bytes, video by video."""
        return paired_ratio(self.deep.errors, self.less.errors)

    @property
    def to_plain(self) -> Ratio:
        """3-D over no transform, video by video."""
        return paired_ratio(self.deep.errors, self.plain.errors)


@dataclass(frozen=True)
class _Encoded:
    """A history that is kept in a smaller form."""

    words: str
    basis: str
    trial: Trial


def find(lab: Lab) -> Finding:
    """Bands and truncation on the (T, H, W) grid of the shipped video model against the same frame by frame."""
    videos = lab.beside(VIDEO_MODEL, VIDEOS)
    bands = [pair for site in ("stack", "branch") for pair in _bands(videos, site)]
    encoded = _encoded(videos)
    boxes = _boxes(encoded)
    pairs = [*bands, *boxes]
    best = min(pairs, key=lambda pair: pair.ratio.mean)
    useful = [pair for pair in pairs if pair.ratio.is_smaller and pair.to_plain.is_smaller]
    closest = min(boxes, key=lambda pair: pair.to_less.mean, default=None)
    verdict: Verdict = "optional" if useful else "refuted"
    return Finding(
        name="H5",
        claim="a 3-D Fourier transform helps for video",
        built="the same nodes on (T, H, W) grids: `fft_compress`, `fft_expand`, bands, `LowPass`; frame by frame with "
        'the basis "frame_dct"',
        verdict=verdict,
        decided_by=(
            f"On the shipped video model {sum(pair.ratio.is_smaller for pair in pairs)} of {len(pairs)} comparisons "
            f"are surely better in 3-D than frame by frame, {sum(pair.to_less.is_larger for pair in pairs)} surely "
            f"worse; {len(useful)} are surely better than frame by frame and than no transform at all. Best: "
            f"{best.words} at {best.site} sites has {best.ratio} times the error of frame by frame, and "
            f"{best.to_plain} times that of {_control_of(best)}." + ("" if closest is None else _said_of(closest))
        ),
        tables=[_table(bands), _table_of_boxes(encoded, boxes), check_kernels()],
        notes=[about_videos(videos)],
    )


def _bands(lab: Lab, site: str) -> list[_Pair]:
    """Predictors with bands, cut from both transforms; the control is the same predictor without bands."""
    steps = uniform(lab.steps, COMPUTED)
    reuse, second = fc.Reuse(), fc.Newton(2)

    def measure(predictor: Predictor, codec: Codec | None = None) -> Trial:
        return lab.measure(fc.Method("H5", site, fc.Table(steps), predictor, codec=codec or fc.Dense()))

    def pair(kind: str, words: str, predictor: Predictor, plain: Trial) -> _Pair:
        flat = measure(predictor, FLAT)
        return _Pair(kind, site, words, measure(predictor, DEEP), flat, flat, plain)

    plain = measure(second)
    split = fc.Banded(EDGES, (reuse, second, second, second))
    found = [pair("bands", "lowest band reused, the others of order 2", split, plain)]
    if site == "stack":
        damped = fc.Banded(EDGES, (second, *(fc.Damped(second, factor) for factor in (0.9, 0.8, 0.7))))
        return [*found, pair("bands", "order 2, damped more the higher the band", damped, plain)]
    one = measure(fitted_scalars(lab, site, steps, ()))
    deep, flat = (measure(fitted_scalars(lab, site, steps, EDGES, codec=codec), codec) for codec in (DEEP, FLAT))
    return [*found, _Pair("fitted scalars", site, "fitted, 4 bands", deep, flat, flat, one)]


def _encoded(lab: Lab) -> list[_Encoded]:
    """Order 2 at the stack, from a history that is truncated or rounded; and order 1, whose history is shorter."""
    steps = uniform(lab.steps, COMPUTED)

    def measure(words: str, basis: str, codec: Codec, predictor: Predictor) -> _Encoded:
        method = fc.Method("H5", "stack", fc.Table(steps), predictor, codec=codec)
        return _Encoded(words, basis, lab.measure(method))

    second, rounded = fc.Newton(2), fc.Quantized("int8")
    plain = [
        measure("order 2, float32", "none", fc.Dense(), second),
        measure("order 2, int8", "none", rounded, second),
        measure("order 1, int8", "none", rounded, fc.Newton(1)),
    ]
    flat = [measure(f"order 2, {k:.0%}", "2-D", fc.LowPass(k, "frame_dct"), second) for k in FLAT_KEEPS]
    deep = [measure(f"order 2, {k:.0%}", "3-D", fc.LowPass(k, "dct"), second) for k in DEEP_KEEPS]
    return [*plain, *flat, *deep]


def _boxes(encoded: list[_Encoded]) -> list[_Pair]:
    """Each 3-D truncation between the frame-wise ones of the nearest sizes; without both, it is left out."""
    found = []
    for deep in (row for row in encoded if row.basis == "3-D"):
        size = deep.trial.cache_bytes
        flat = [row.trial for row in encoded if row.basis == "2-D" and row.trial.cache_bytes >= size]
        less = [row.trial for row in encoded if row.basis == "2-D" and row.trial.cache_bytes <= size]
        plain = [row.trial for row in encoded if row.basis == "none" and row.trial.cache_bytes <= size]
        if flat and less and plain:
            above, below = min(flat, key=lambda t: t.cache_bytes), max(less, key=lambda t: t.cache_bytes)
            rival = min(plain, key=lambda t: t.mean)
            found.append(_Pair("truncated", "stack", f"{deep.words} of the DCT", deep.trial, above, below, rival))
    return found


def _control_of(pair: _Pair) -> str:
    return "rounding to no more bytes" if pair.kind == "truncated" else "the same without bands"


def _said_of(box: _Pair) -> str:
    """A truncated history beside those of the nearest sizes, in words."""
    sizes = [f"{trial.cache_bytes / 1024:.0f} KiB" for trial in (box.deep, box.less, box.flat)]
    return (
        f" A history truncated in 3-D to {sizes[0]} has {box.to_less} times the error of one truncated in 2-D to "
        f"{sizes[1]}, {box.ratio} times that at {sizes[2]}, and {box.to_plain} times that of rounding instead."
    )


def _table(pairs: list[_Pair]) -> Table:
    return Table(
        f"{COMPUTED} computed steps of 50, evenly spaced. Bands of the DCT over frames, "
        "rows and columns (3-D), or of the DCT of each frame (2-D): the same computed steps, the same bytes. "
        "No transform: order 2, or for fitted scalars the fit without bands.",
        ("kind", "sites", "predictor", "error, no transform", "2-D", "3-D", "3-D / 2-D", "3-D / none", "cache, KiB"),
        tuple(
            (
                *(pair.kind, pair.site, pair.words, pair.plain.mean, pair.flat.mean, pair.deep.mean),
                *(pair.ratio, pair.to_plain, pair.deep.cache_bytes / 1024),
            )
            for pair in pairs
        ),
        {
            **{"error, no transform": ".4f", "2-D": ".4f", "3-D": ".4f", "3-D / 2-D": ".3f", "3-D / none": ".3f"},
            "cache, KiB": ".0f",
        },
    )


def _table_of_boxes(encoded: list[_Encoded], boxes: list[_Pair]) -> Table:
    by_trial = {id(pair.deep): pair for pair in boxes}
    rows = []
    for row in encoded:
        pair = by_trial.get(id(row.trial))
        ratios = (None, None, None) if pair is None else (pair.ratio, pair.to_less, pair.to_plain)
        rows.append((row.basis, row.words, row.trial.cache_bytes / 1024, row.trial.mean, *ratios))
    return Table(
        f"Order 2 on {COMPUTED} evenly spaced steps, stack site, the history kept in smaller forms. Ratios of 3-D: to "
        "the next larger and the next smaller 2-D one, and to the best without a transform of no more bytes.",
        ("transform", "kept", "cache, KiB", "error", "to 2-D of more", "to 2-D of less", "to none"),
        tuple(rows),
        {
            **{"cache, KiB": ".0f", "error": ".4f", "to 2-D of more": ".3f", "to 2-D of less": ".3f"},
            "to none": ".3f",
        },
    )


def about_videos(lab: Lab) -> str:
    """Say what was measured on the video model, and how good its samples are."""
    images, model, frames = lab.held_out, lab.model, lab.subject.shape[1:]
    patch: tuple[int, ...] = model.config.patch_size  # type: ignore[union-attr,assignment]  # diffusers' own attribute
    grid = " x ".join(str(size // step) for size, step in zip(frames, patch, strict=True))
    metrics = json.loads((lab.subject.folder / "metrics.json").read_text())
    return (
        f"Measured on {images.count} held-out videos, each of {len(images.classes)} classes with each of "
        f"{len(images.seeds)} noise seeds, {lab.steps} Euler steps, guidance {images.guidance:g}, {grid} tokens; "
        f"calibration saw {len(lab.subject.calibration.classes)} of the classes and another seed. The model is small "
        f"and briefly trained: its judge recognises the class in {metrics['samples']['accuracy']:.1%} of its samples, "
        f"and in {metrics['real']['accuracy']:.1%} of real videos."
    )
