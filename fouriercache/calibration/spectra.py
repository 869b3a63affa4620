"""What `analyze` found: how a model's features spread over temporal and spatial frequencies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from math import log10
from typing import Any

from fouriercache.checks import check_number
from fouriercache.errors import MethodError
from fouriercache.schedules import PerSite

_BARS = " ▁▂▃▄▅▆▇█"
_COLUMNS = 24


@dataclass(frozen=True)
class SiteSpectrum:
    """The power of one site's feature over a trajectory.

    Attributes:
        name: of the site. kind: "attention", "mlp", ... block: the block it is in.
        power: the share of the feature's power in each spatial band and at each temporal frequency, [bands][T]; all
            add up to 1. Temporal frequency k is that of row k of the DCT-II over the T steps: k / (2 T) cycles a step.
        bandwidth: in cycles a step; what lies at it or above is at most the analysis' `tolerance` of the feature.
        band_bandwidths: the same of each spatial band alone, measured by the band's own power; 0 for an empty band.
        interval: steps between two values that a signal of this bandwidth needs, by the sampling theorem.
    """

    name: str
    kind: str
    block: str
    power: tuple[tuple[float, ...], ...]
    bandwidth: float
    band_bandwidths: tuple[float, ...]
    interval: int

    @classmethod
    def of(cls, name: str, kind: str, block: str, power: Sequence[Sequence[float]], tolerance: float) -> SiteSpectrum:
        """Return the spectrum of powers [bands][T] in any unit."""
        total = sum(map(sum, power))
        shares = tuple(tuple(value / total if total else 0.0 for value in band) for band in power)
        steps = len(shares[0])
        bandwidth = bandwidth_of([sum(column) for column in zip(*shares, strict=True)], tolerance)
        return cls(
            name,
            kind,
            block,
            shares,
            bandwidth,
            tuple(bandwidth_of(band, tolerance) for band in shares),
            max(1, int(1 / (2 * bandwidth) + 1e-9)) if bandwidth else steps,
        )

    @property
    def temporal(self) -> tuple[float, ...]:
        """The share of power at each temporal frequency, [T]."""
        return tuple(sum(column) for column in zip(*self.power, strict=True))

    @property
    def spatial(self) -> tuple[float, ...]:
        """The share of power in each spatial band, lowest first."""
        return tuple(map(sum, self.power))


@dataclass(frozen=True)
class Analysis:
    """Temporal and spatial spectra of a model's sites on a few trajectories.

    Attributes:
        site: the kind of site: "branch", "block" or "stack". num_steps: steps of a trajectory, T.
        edges: borders of the spatial bands, as in `Banded`. tolerance: see `SiteSpectrum.bandwidth`.
        timesteps: as the model receives them. rows: samples times passes that were averaged over.
        sites: one spectrum for each, in the order of execution.
    """

    site: str
    num_steps: int
    edges: tuple[float, ...]
    tolerance: float
    timesteps: tuple[float, ...]
    rows: int
    sites: tuple[SiteSpectrum, ...]

    @property
    def frequencies(self) -> tuple[float, ...]:
        """The temporal frequencies, in cycles a step, from 0 to just below one half."""
        return tuple(k / (2 * self.num_steps) for k in range(self.num_steps))

    @property
    def intervals(self) -> dict[str, int]:
        """The interval that each site's bandwidth suggests."""
        return {site.name: site.interval for site in self.sites}

    def schedule(self, interval: float) -> PerSite:
        """Return intervals in proportion to those suggested, that compute as much as `interval` at every site would.

        They compute at most as much, and as much of it as whole numbers allow.

        Raises MethodError when `interval` is not a number of at least 1.
        """
        check_number("Analysis.schedule", "interval", interval, least=1, advice="5 computes one step in five.")
        allowed = (1 + (self.num_steps - 1) // interval) / self.num_steps
        factors = sorted(
            {(length + 0.5) / site.interval for site in self.sites for length in range(self.num_steps)} | {0.0}
        )
        for factor in factors:
            found = PerSite(tuple(max(1, round(factor * site.interval + 1e-9)) for site in self.sites))
            if found.share(self.num_steps) <= allowed + 1e-12:
                return found
        raise MethodError(
            f"No intervals compute as little as one step in {interval}.\n"
            f"  where: Analysis.schedule({interval})\n"
            f"  Ask for an interval of at most {self.num_steps}."
        )

    def table(self) -> str:
        """Return the spectra as text: a line for each site, its temporal spectrum as bars on a logarithmic scale."""
        bands = [f"band {band}" for band in range(len(self.edges) + 1)]
        head = [
            "site",
            "kind",
            "bandwidth",
            "interval",
            *bands,
            f"power, 0 to {self.frequencies[-1]:.2f} cycles a step",
        ]
        rows = [
            [
                site.name,
                site.kind,
                f"{site.bandwidth:.3f}",
                str(site.interval),
                *(f"{share:.1%}" for share in site.spatial),
                bars(site.temporal),
            ]
            for site in self.sites
        ]
        widths = [max(len(row[column]) for row in [head, *rows]) for column in range(len(head))]
        lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in [head, *rows]]
        return "\n".join(line.rstrip() for line in lines)

    def as_dict(self) -> dict[str, Any]:
        """Return everything as values that JSON can say."""
        return asdict(self)


def bandwidth_of(power: Sequence[float], tolerance: float) -> float:
    """Return the lowest frequency, in cycles a step, at and above which lies at most `tolerance` of the signal.

    `tolerance` is a share of the signal's L2 norm, so its square is a share of the power. 0 for a signal of no power.

    Args:
        power: [T], at the frequencies k / (2 T).
    """
    allowed = tolerance**2 * sum(power)
    if not sum(power):
        return 0.0
    above = 0.0
    for k in reversed(range(len(power))):
        above += power[k]
        if above > allowed:
            return (k + 1) / (2 * len(power))
    return 0.0


def bars(shares: Sequence[float]) -> str:
    """Return shares of power as a line of bars; each height below the full one is a factor of ten less.

    Neighbours are summed where there are more shares than columns.
    """
    width = -(-len(shares) // _COLUMNS)
    sums = [sum(shares[start : start + width]) for start in range(0, len(shares), width)]
    largest, full = max(sums), len(_BARS) - 1
    heights = [full - int(log10(largest / value) + 1e-9) if value > 0 else 0 for value in sums]
    return "".join(_BARS[max(0, height)] for height in heights)
