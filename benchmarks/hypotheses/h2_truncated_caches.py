"""H2: truncated Fourier coefficients shrink the cache."""

from __future__ import annotations

from dataclasses import dataclass

import fouriercache as fc
from fouriercache.codecs import Codec
from fouriercache.codecs.base import Slots, StoredType

from .finding import Finding, Table, judge
from .lab import Lab, Trial
from .pairs import Ratio, paired_ratio

KEEPS = (0.05, 0.25, 0.5)
DTYPES: tuple[StoredType, ...] = ("bfloat16", "int8")


@dataclass(frozen=True)
class _Row:
    method: str
    site: str
    what: str
    slots: str
    is_fourier: bool
    trial: Trial


def find(lab: Lab) -> Finding:
    """Encode the newest feature, the older ones, or all, by truncation and by fewer bits; compare at equal bytes."""
    rows = [row for site in ("stack", "branch") for row in _rows(lab, site)]
    table = Table(
        "FORA and TaylorSeer of order 2, both with interval 6, whose history is kept in different forms. Ratio: error "
        "over that of the same method's dense history, pairs of images. Bytes are of one image.",
        ("method", "sites", "kept", "encoded", "cache, KiB", "error", "ratio to dense"),
        tuple(
            (
                row.method,
                row.site,
                row.what,
                row.slots,
                row.trial.cache_bytes / 1024,
                row.trial.mean,
                _to_dense(row, rows),
            )
            for row in rows
        ),
        {"cache, KiB": ".0f", "error": ".4f", "ratio to dense": ".3f"},
    )
    best, truncated, control = min(_duels(rows), key=lambda duel: duel[0].mean)
    return Finding(
        name="H2",
        claim="truncated Fourier coefficients shrink the cache",
        built="codecs `LowPass(keep, basis, slots)` and `Quantized(dtype, slots)`; node `fft_compress`",
        verdict=judge(best, is_default=False),
        decided_by=(
            f"The best truncation against the best control of no more bytes: {_words(truncated)} has {best} times the "
            f"error of {_words(control)}."
        ),
        tables=[table],
        notes=[
            "FORA keeps one feature, so there the newest alone is encoded, as in *newest*. With a longer history the "
            "newest feature is an older one a step later, so that truncating it alone would mean to keep it twice."
        ],
    )


def _words(row: _Row) -> str:
    return f"{row.what} on {row.slots} ({row.method}, {row.site}, {row.trial.cache_bytes / 1024:.0f} KiB)"


def _rows(lab: Lab, site: str) -> list[_Row]:
    rows = []
    for method, slots in (
        (fc.FORA(6, site=site), ("newest",)),
        (fc.TaylorSeer(6, 2, site=site), ("all", "older")),
    ):
        rows.append(_Row(method.name, site, "dense float32", "-", False, lab.measure(method)))
        for words in slots:
            for what, codec in _codecs("older" if words == "older" else "all"):
                trial = lab.measure(method.with_(codec=codec))
                rows.append(_Row(method.name, site, what, words, isinstance(codec, fc.LowPass), trial))
    return rows


def _codecs(slots: Slots) -> list[tuple[str, Codec]]:
    codecs: list[tuple[str, Codec]] = [(dtype, fc.Quantized(dtype, slots=slots)) for dtype in DTYPES]
    codecs += [(f"{keep:.0%} of the DCT", fc.LowPass(keep, slots=slots)) for keep in KEEPS]
    return [*codecs, (f"{KEEPS[-1]:.0%} of the DFT", fc.LowPass(KEEPS[-1], "dft", slots))]


def _to_dense(row: _Row, rows: list[_Row]) -> Ratio | None:
    dense = next(other for other in rows if (other.method, other.site) == (row.method, row.site))
    return None if row is dense else paired_ratio(row.trial.errors, dense.trial.errors)


def _duels(rows: list[_Row]) -> list[tuple[Ratio, _Row, _Row]]:
    """Each truncated cache against the closest control that needs no more bytes, of either kind of site."""
    found = []
    for row in (row for row in rows if row.is_fourier):
        rivals = [o for o in rows if not o.is_fourier and o.trial.cache_bytes <= row.trial.cache_bytes]
        if rivals:
            rival = min(rivals, key=lambda other: other.trial.mean)
            found.append((paired_ratio(row.trial.errors, rival.trial.errors), row, rival))
    return found
