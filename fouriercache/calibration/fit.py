"""Scalars of a prediction by ridge regression, in closed form, from Gram matrices alone.

At a predicted step let H_0, H_1, ... be the kept features, the newest first, F the feature that computing the step
would give, and c0 the scalars of the predictor to start from. The scalars

    c = argmin |F - sum_k c_k H_k|^2 + ridge * (sum_k |H_k|^2 / K) * |c - c0|^2

solve (A + rho I) c = b + rho c0, with A_jk = <H_j, H_k>, b_k = <H_k, F> and rho the ridge times the mean of A's
diagonal: L2P's regression (arXiv:2604.26365) drawn towards a published predictor instead of towards 0. In a spatial
band the inner products run over the band's coefficients on the token grid, in the basis of the method's codec, or of a
DCT. So each band of each site has scalars of its own, and features are forgotten as soon as their inner products are
summed.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from fouriercache.calibration.loop import Loop
from fouriercache.checks import check_edges, check_number
from fouriercache.codecs import Dense
from fouriercache.methods import Method
from fouriercache.optimize import optimize
from fouriercache.predictors import Calibrated, Coefficients, Predictor, Reuse
from fouriercache.program import TokenGrid
from fouriercache.runtime.module import OptimizedModule
from fouriercache.runtime.session import Position
from fouriercache.schedules import Interval
from fouriercache.spectral import Basis, band_map, grid_bases, transform
from fouriercache.tokens import All


@dataclass(frozen=True)
class Fit:
    """How the scalars of predictions are fitted.

    `edges` part spatial bands with scalars of their own, as in `Banded`. With `per_site`, so has each site. `ridge`
    draws the scalars towards those of the method's predictor. `on_policy` fits along the cached trajectory, step by
    step, so that each step is fitted to the inputs it will see; without, along the uncached one. With `keep_energy`,
    scalars are scaled so that a prediction has the energy of the true feature in each band, over the calibration set:
    least squares alone gives less, the more so the less can be predicted, and blurs.

    Raises MethodError when edges do not ascend between 0 and 1, or the ridge is negative.
    """

    edges: tuple[float, ...] = ()
    per_site: bool = False
    ridge: float = 1e-5
    on_policy: bool = True
    keep_energy: bool = False

    def __post_init__(self) -> None:
        check_edges("Fit", self.edges)
        check_number("Fit", "ridge", self.ridge, least=0.0, advice="0.0 fits freely, 1e-5 leans on the predictor.")


def fit_scalars(model: nn.Module, method: Method, loop: Loop, table: tuple[int, ...], fit: Fit) -> Calibrated:
    """Return scalars for every step that `table` leaves out, fitted on the calibration set.

    The true feature of a predicted step is what the model, in a session of its own, gives for the step's inputs.

    Args:
        loop: runs the set with a method whose predictor has the form of what is fitted; see `form_of`.
    """
    complete = method.with_(schedule=Interval(1), predictor=Reuse(), codec=Dense(), tokens=All())
    basis = method.codec.storage.basis or "dct"
    teacher = optimize(model, complete, **_capture_only(loop.options))
    collected = _Collected(teacher, method.predictor, table, fit, basis)
    every = tuple(range(loop.num_steps))
    run = table if fit.on_policy else every
    loop.run(run, collected.after_call, before_call=collected.before_call, answers=collected.table)
    steps = [step for step in every if step not in table]
    return Calibrated(table, tuple(collected.rows(step) for step in steps), fit.edges)


def solve_ridge(gram: Tensor, start: Tensor, ridge: float) -> Tensor:
    """Return the scalars, float64 [..., K].

    Args:
        gram: float64 [..., K + 1, K + 1], inner products of F, H_0, H_1, ..., in this order.
        start: float64 [..., K], the scalars to start from.
    """
    known, target = gram[..., 1:, 1:], gram[..., 1:, 0]
    scale = known.diagonal(dim1=-2, dim2=-1).mean(-1)[..., None]
    # of features that are 0 everywhere nothing is known: any ridge leaves their scalars where they start
    weight = torch.where(scale > 0, max(ridge, 1e-12) * scale, 1.0)
    matrix = known + torch.diag_embed(weight.expand(start.shape))
    found: Tensor = torch.linalg.solve(matrix, target + weight * start)
    return found


def with_energy(gram: Tensor, scalars: Tensor) -> Tensor:
    """Return the scalars, scaled so that `sum_k c_k H_k` has the energy of F; as they are where either has none.

    Args:
        gram, scalars: as `solve_ridge` takes and gives them.
    """
    predicted = torch.einsum("...j,...jk,...k->...", scalars, gram[..., 1:, 1:], scalars)
    energy = gram[..., 0, 0]
    is_usable = (predicted > 0) & (energy > 0)
    return scalars * torch.where(is_usable, energy / predicted.clamp_min(1e-300), 1.0).sqrt()[..., None]


def band_gram(
    features: Sequence[Tensor], edges: Sequence[float], grid: TokenGrid | None, basis: Basis = "dct"
) -> Tensor:
    """Return the inner products of a site's features in each band, float64 [bands, n, n].

    Tokens that are not on the grid belong to the lowest band, and so do all tokens of a site that has no grid.

    Args:
        features: n tensors [..., tokens, channels].
    """
    stacked = torch.stack([feature.detach().float() for feature in features])
    tokens = stacked.shape[-2] if stacked.ndim > 2 else 0
    if not edges or grid is None or tokens < grid.start + grid.tokens:
        rest = _products(stacked)
        return torch.stack([rest, *(torch.zeros_like(rest) for _ in edges)])
    sizes = (grid.t, grid.h, grid.w)
    on_grid = stacked[..., grid.start : grid.start + grid.tokens, :]
    spectra = transform(on_grid, [matrix.to(stacked) for matrix in grid_bases(sizes, basis)])
    bands = band_map(sizes, edges, basis).flatten().to(stacked.device)
    found = torch.stack([_products(spectra[..., bands == band, :]) for band in range(len(edges) + 1)])
    found[0] += _products(stacked) - _products(on_grid)
    return found


def _products(stacked: Tensor) -> Tensor:
    rows = stacked.reshape(len(stacked), -1)
    return (rows @ rows.T).double().cpu()


class _Collected:
    """Sums Gram matrices while the calibration set runs, and answers for the steps that are predicted."""

    def __init__(
        self, teacher: OptimizedModule, predictor: Predictor, table: tuple[int, ...], fit: Fit, basis: Basis
    ) -> None:
        self._teacher = teacher
        self._session = teacher.new_session()
        self._predictor, self._computed, self._fit, self._basis = predictor, table, fit, basis
        self._now: Mapping[str, Tensor] = {}
        self._rings: dict[Hashable, list[Mapping[str, Tensor]]] = {}
        self._grams: dict[int, Tensor] = {}

    def before_call(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Compute the features that the model has for these inputs."""
        self._session.reset()  # each call begins a trajectory, so it is computed
        self._session(*args, **kwargs)
        (self._now,) = self._session.features.values()

    def after_call(self, position: Position, _: list[Tensor]) -> None:
        """Take the features over: into the ring at a computed step, into the sums at a predicted one."""
        if position.is_new_trajectory:
            self._rings.clear()
        ring = self._rings.setdefault(position.pass_key, [])
        if position.step in self._computed:
            ring.insert(0, self._now)
            del ring[self._predictor.history :]
        else:
            known = self._grams.get(position.step)
            gram = self._gram(ring)
            self._grams[position.step] = gram if known is None else known + gram

    def table(self, computed: Sequence[int], step: int) -> Coefficients:
        """Answer as `Predictor.table`, in the midst of the call: from the first pass's features, which are there."""
        ring = next(iter(self._rings.values()))
        return self._solve(self._gram(ring), computed, step)

    def rows(self, step: int) -> Coefficients:
        """Return the scalars of a step, fitted to all passes and trajectories."""
        return self._solve(self._grams[step], tuple(done for done in self._computed if done < step), step)

    def _gram(self, ring: list[Mapping[str, Tensor]]) -> Tensor:
        """[sites or 1, bands, K + 1, K + 1], sites in the order of the canonical program."""
        canonical = self._teacher.program("canonical")
        grams = [
            band_gram(
                [features[site.name] for features in (self._now, *ring)], self._fit.edges, canonical.grid, self._basis
            )
            for site in canonical.sites
        ]
        stacked = torch.stack(grams)
        return stacked if self._fit.per_site else stacked.sum(0, keepdim=True)

    def _solve(self, gram: Tensor, computed: Sequence[int], step: int) -> Coefficients:
        sites, bands, size = gram.shape[0], gram.shape[1], gram.shape[-1] - 1
        answer = self._predictor.table(computed, step)
        start = torch.zeros(sites, bands, size, dtype=torch.float64)
        for site in range(sites):
            for band in range(bands):
                of_site = answer[site % len(answer)]
                row = of_site[band if len(of_site) == bands else 0]
                start[site, band, : len(row)] = torch.tensor(row, dtype=torch.float64)
        found = solve_ridge(gram, start, self._fit.ridge)
        scalars: list[list[list[float]]] = (with_energy(gram, found) if self._fit.keep_energy else found).tolist()
        return tuple(tuple(tuple(row) for row in site) for site in scalars)


@dataclass(frozen=True)
class _Form:
    """A predictor that only says what fitted scalars will look like: those of another, by band and site."""

    base: Predictor
    edges: tuple[float, ...]
    per_site: bool

    name = "form"
    needs_gram = False

    @property
    def history(self) -> int:
        """As many features as the base reads."""
        return self.base.history

    def table(self, computed: Sequence[int], step: int) -> Coefficients:
        """Return the base's scalars, for each band."""
        return tuple((site[0],) * (len(self.edges) + 1) for site in self.base.table(computed, step))


def form_of(method: Method, fit: Fit) -> Method:
    """Return `method` with a predictor of the form of what `fit` gives; itself where that is its own."""
    if not fit.edges and not fit.per_site and not method.predictor.edges:
        return method
    return method.with_(predictor=_Form(method.predictor, fit.edges, fit.per_site))


def _capture_only(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of `optimize` that say how a call is captured, without those that follow a trajectory."""
    return {name: value for name, value in options.items() if name not in ("passes_per_step", "direction")}
