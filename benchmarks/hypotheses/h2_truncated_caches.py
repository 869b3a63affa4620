"""H2: truncated Fourier coefficients shrink the cache."""

from __future__ import annotations

from dataclasses import dataclass

import fouriercache as fc

from .finding import Finding, Table, judge
from .lab import Lab, Trial
from .pairs import Ratio, paired_ratio

KEEPS = (0.05, 0.25, 0.5)


@dataclass(frozen=True)
class _Row:
    site: str
    what: str
    slots: str
    is_fourier: bool
    trial: Trial


def find(lab: Lab) -> Finding:
    """Encode the whole history, or all but the newest, by truncation and by fewer bits; compare at equal bytes."""
    rows = [row for site in ("stack", "branch") for row in _rows(lab, site)]
    table = Table(
        "TaylorSeer of order 2, interval 6, whose history is kept in different forms. Ratio: error over that of the "
        "dense history, pairs of images. Bytes are of one image.",
        ("sites", "kept", "encoded", "cache, KiB", "error", "ratio to dense"),
        tuple(
            (row.site, row.what, row.slots, row.trial.cache_bytes / 1024, row.trial.mean, _to_dense(row, rows))
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
            f"The best truncation against the best control of no more bytes: {truncated.what} on {truncated.slots} "
            f"({truncated.site}, {truncated.trial.cache_bytes / 1024:.0f} KiB) has {best} times the error of "
            f"{control.what} on {control.slots} ({control.site}, {control.trial.cache_bytes / 1024:.0f} KiB)."
        ),
        tables=[table],
    )


def _rows(lab: Lab, site: str) -> list[_Row]:
    base = fc.TaylorSeer(6, 2, site=site)
    rows = [_Row(site, "dense float32", "-", False, lab.measure(base))]
    for slots in ("all", "older"):
        for dtype in ("bfloat16", "int8"):
            bits = fc.Quantized(dtype, slots=slots)
            rows.append(_Row(site, dtype, slots, False, lab.measure(base.with_(codec=bits))))
        for keep in KEEPS:
            codec = fc.LowPass(keep, slots=slots)
            rows.append(_Row(site, f"{keep:.0%} of the DCT", slots, True, lab.measure(base.with_(codec=codec))))
    return rows


def _to_dense(row: _Row, rows: list[_Row]) -> Ratio | None:
    dense = next(other for other in rows if other.site == row.site)
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
