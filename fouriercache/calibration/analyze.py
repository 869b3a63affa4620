"""`analyze`: in which temporal and spatial frequencies a model's features live, on a few trajectories."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from fouriercache.calibration.loop import Sample, hook_of
from fouriercache.calibration.pipelines import calibration_set
from fouriercache.calibration.progress import Bars
from fouriercache.calibration.spectra import Analysis, SiteSpectrum
from fouriercache.checks import check_choice, check_edges, check_number, check_whole
from fouriercache.errors import CalibrationError
from fouriercache.methods import SITES, Method
from fouriercache.optimize import optimize
from fouriercache.predictors import Reuse
from fouriercache.program import Site, TokenGrid
from fouriercache.runtime.module import OptimizedModule
from fouriercache.runtime.session import Position
from fouriercache.schedules import Interval
from fouriercache.spectral import band_map, dct_basis, grid_bases, transform

_VALUES = 2**15
"""Values of a feature that are followed through time, at most: whole token grids of some channels and rows."""


def analyze(
    model: Any,
    *,
    num_steps: int,
    site: str = "branch",
    sample: Sample | None = None,
    call: Mapping[str, Any] | None = None,
    seeds: Sequence[int] = (0,),
    edges: tuple[float, ...] = (0.1, 0.3, 0.6),
    tolerance: float = 0.1,
    progress: bool = True,
    **options: Any,
) -> Analysis:
    """Return the temporal and spatial spectra of every site of `model`, its bandwidth, and the interval it suggests.

    The calibration set is sampled once with every step computed. Each site's feature is transformed by a DCT on the
    token grid, and each of its coefficients, of evenly spaced channels, by a DCT-II over the steps. A DCT has no jump
    where a Fourier series would close the trajectory to a circle. A site off the grid has one band.

    Args:
        model: a denoiser in eval mode, what `optimize` made of one, or a diffusers pipeline with a `transformer`.
        num_steps: denoising steps of a trajectory.
        site: "branch", "block" or "stack".
        sample, call, seeds: the calibration set, as for `calibrate`; of an optimised module, its model is sampled.
        edges: borders between spatial bands, as shares of the grid's largest radial frequency.
        tolerance: what may lie above a site's bandwidth, as a share of its feature in the L2 norm.
        progress: show a bar on stderr.
        options: keyword arguments of `optimize` that the denoiser needs (grid, passes_per_step, ...).

    Raises:
        MethodError: an argument makes no sense.
        CalibrationError: `sample` or the pipeline cannot be used, takes another number of steps, or calls no denoiser.
        CaptureError, UnsupportedModelError: as `optimize` raises them.
    """
    check_whole("analyze", "num_steps", num_steps, least=2, advice="It is the scheduler's number of steps.")
    check_edges("analyze", edges)
    check_question(site, tolerance)
    plain = model.model if type(model) is OptimizedModule else model
    denoiser, run, _ = calibration_set(plain, sample, call, seeds, None, num_steps)
    every = Method("analysis", site, Interval(1), Reuse())
    fast = optimize(denoiser, every, num_steps=num_steps, **options)
    collected = _Collected(fast, num_steps, edges)
    with Bars(progress) as bars:
        bars.begin("spectra", num_steps)
        hook = fast.register_forward_hook(hook_of(lambda at, _: collected.take(at, bars), fast))
        try:
            with torch.no_grad():
                run(fast)
        finally:
            hook.remove()
    collected.close()
    if not collected.rows:
        raise CalibrationError(
            "sample(denoiser) never called the denoiser.\n"
            "  Run the whole sampling loop with the module it is given, not with the original."
        )
    spectra = tuple(
        SiteSpectrum.of(found.name, found.kind, found.block, collected.power[found.name].tolist(), tolerance)
        for found in collected.sites
    )
    return Analysis(site, num_steps, edges, tolerance, tuple(collected.timesteps.values()), collected.rows, spectra)


class _Collected:
    """Follows one trajectory at a time, and sums the power of all.

    Attributes:
        power: float64 [bands, T] of each site. rows: how many were averaged. timesteps: by step.
    """

    def __init__(self, fast: OptimizedModule, num_steps: int, edges: tuple[float, ...]) -> None:
        self.power: dict[str, Tensor] = {}
        self.timesteps: dict[int, float] = {}
        self.rows = 0
        self._fast, self._num_steps, self._edges = fast, num_steps, edges
        self._series: dict[Hashable, dict[str, list[Tensor]]] = {}

    @property
    def sites(self) -> tuple[Site, ...]:
        return self._fast.program("canonical").sites

    def take(self, position: Position, bars: Bars) -> None:
        """Keep some of each site's feature after a call."""
        if position.is_new_trajectory:
            self.close()
        grid = self._fast.program("canonical").grid
        features = self._fast.session.features[position.pass_key]
        series = self._series.setdefault(position.pass_key, {})
        for site in self.sites:
            series.setdefault(site.name, []).append(coefficients_of(features[site.name], grid))
        if position.step == 0:
            self.rows += len(features[self.sites[0].name])
        if position.step not in self.timesteps:
            self.timesteps[position.step] = position.timestep[0]
            bars.advance("spectra")

    def close(self) -> None:
        """End a trajectory: transform in time what was followed."""
        if not self._series:
            return
        grid = self._fast.program("canonical").grid
        for series in self._series.values():
            for name, values in series.items():
                if len(values) != self._num_steps:
                    raise CalibrationError(
                        f"The sampler took {len(values)} steps, and num_steps says {self._num_steps}.\n"
                        "  Give num_steps= the number of denoiser calls in a trajectory, passes of a step counted once."
                    )
                found = power_of(
                    torch.stack(values), bands_of(values[0].shape[1], grid, self._edges), len(self._edges) + 1
                )
                self.power[name] = self.power.get(name, torch.zeros_like(found)) + found
        self._series = {}


def coefficients_of(feature: Tensor, grid: TokenGrid | None) -> Tensor:
    """Return the spatial coefficients of some rows and channels of a feature, float32 [rows, tokens, channels].

    Of a feature with a grid, the tokens on the grid; one without is returned in the tokens' own domain. A copy.

    Args:
        feature: [rows, tokens, channels], or with any other axes between, which are taken for tokens.
    """
    tokens = feature.detach().float().cpu().flatten(1, -2)
    has_grid = grid is not None and tokens.shape[1] >= grid.start + grid.tokens
    if grid is not None and has_grid:
        tokens = tokens[:, grid.start : grid.start + grid.tokens]
    rows, count, channels = tokens.shape
    most = max(1, _VALUES // count)
    taken = min(rows, most)
    some = tokens[:: -(-rows // taken), :, :: -(-channels // max(1, most // taken))].contiguous()
    if grid is None or not has_grid:
        return some.clone()
    return transform(some, [basis.float() for basis in grid_bases((grid.t, grid.h, grid.w))])


def bands_of(tokens: int, grid: TokenGrid | None, edges: tuple[float, ...]) -> Tensor:
    """Return the band of each spatial coefficient, int64 [tokens]; band 0 for all where there is no grid."""
    if grid is None or tokens != grid.tokens:
        return torch.zeros(tokens, dtype=torch.int64)
    return band_map((grid.t, grid.h, grid.w), edges).flatten()


def power_of(series: Tensor, bands: Tensor, count: int) -> Tensor:
    """Return the power at each temporal frequency in each of `count` bands, float64 [count, T].

    Args:
        series: [T, rows, tokens, channels], spatial coefficients over time. bands: int64 [tokens].
    """
    spectrum = (dct_basis(len(series), series.dtype) @ series.flatten(1)).view(series.shape)
    power = spectrum.double().square().sum((1, 3))
    return torch.stack([power[:, bands == band].sum(1) for band in range(count)])


def check_question(site: str, tolerance: float) -> None:
    """Raise MethodError when there is no such site, or the tolerance is no share."""
    check_choice("analyze", "site", site, SITES)
    advice = "0.1 lets a tenth of a feature lie above its bandwidth."
    check_number("analyze", "tolerance", tolerance, above=0.0, most=1.0, advice=advice)
