"""The spectral nodes of the methods, each beside the same without a transform: predictor, indicators, token scores.

Every one is measured as it runs at a step: traced, rewritten by the package's own passes, and without what depends on
no value of the step (bases, band maps), which runs once and not at every step.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn.functional import normalize

import fouriercache as fc
from fouriercache import ops
from fouriercache.passes.base import Pass, Pipeline
from fouriercache.passes.fuse_update import FuseUpdate
from fouriercache.passes.hoist_conditioning import MOVING, HoistConditioning
from fouriercache.passes.lower_transforms import LowerTransforms
from fouriercache.passes.split import split
from fouriercache.program import Role
from fouriercache.spectral import band_map, grid_bases, transform
from fouriercache.testing import trace
from fouriercache.tokens.scores import Grid, Scene, Score

Place = Literal["site", "step", "block"]
"""What a node is one of: at most two sites a block are cached; an indicator is looked at once a step; a score ranks the
tokens of one site a block.
"""
_EDGES = (0.1, 0.25, 0.5)
_HISTORY = 3
_TIMESTEP = 500.0
_SLOTS: dict[str, Role] = {f"slot_0_{age}": "slot" for age in range(_HISTORY)}


@dataclass(frozen=True)
class Node:
    """What is timed of one spectral node.

    Attributes:
        call: runs it. plain: runs the same without a transform, None where without one there is no node at all.
        fft: runs the transform by `torch.fft`. error: of the product against that in float64.
        is_in_preset: whether a preset of the package has such a node.
    """

    name: str
    place: Place
    call: Callable[[], Any]
    plain: Callable[[], Any] | None = None
    fft: Callable[[], Any] | None = None
    error: float | None = None
    is_in_preset: bool = True

    def most(self, layers: int) -> int:
        """How many of it a step of a model with so many blocks has at most."""
        return {"site": 2 * layers, "step": 1, "block": layers}[self.place]


def method_nodes(grid: tuple[int, ...], x: Tensor) -> list[Node]:
    """The nodes of predictors, indicators and scores on a token grid, for features like `x`, [batch, tokens, C]."""
    return [_banded(grid, x), *_indicators(grid, x), *_scores(grid, x)]


def _at_a_step(
    fn: Callable[..., Tensor], given: Mapping[str, Tensor], roles: Mapping[str, Role], passes: Sequence[Pass] = ()
) -> Callable[[], Any]:
    """Return what a step runs of `fn`, as the passes write it; the first of `given` is the sample."""
    program = trace(fn, *given.values(), roles=roles)
    program.history = sum(role == "slot" for role in roles.values())
    Pipeline((HoistConditioning(), *passes)).apply(program)
    still, moving = split(program, MOVING)
    values = dict(given)
    with torch.no_grad():
        hoisted = still.module()(*(values[wanted.name] for wanted in still.inputs))
    values |= {f"hoisted_{output.name}": value for output, value in zip(still.outputs, hoisted, strict=True)}
    arguments, module = [values[wanted.name] for wanted in moving.inputs], moving.module()
    return lambda: module(*arguments)


def _banded(grid: tuple[int, ...], x: Tensor) -> Node:
    """Predict, gate and add: slots of coefficients with a row a band, against slots of values with one row."""
    back = [matrix.T.float().contiguous() for matrix in grid_bases(grid)]
    bands = band_map(grid, _EDGES).flatten()
    like = torch.linspace(0.5, 1.5, _HISTORY * (len(_EDGES) + 1)).view(1, len(_EDGES) + 1, _HISTORY)
    stream = {"x": x, "gate": x[:, :1] / 2, **{name: x + age for age, name in enumerate(_SLOTS)}}
    roles: dict[str, Role] = {**_SLOTS, "coefficients": "coefficients"}

    def in_bands(
        x: Tensor, gate: Tensor, slot_0_0: Tensor, slot_0_1: Tensor, slot_0_2: Tensor, coefficients: Tensor
    ) -> Tensor:
        row = coefficients[0].index_select(0, bands)
        found: Tensor = ops.predict(ops.cache_lookup([slot_0_0, slot_0_1, slot_0_2]), row)
        value: Tensor = ops.fft_expand(found, back, 0)
        return x + gate * value

    def plain(
        x: Tensor, gate: Tensor, slot_0_0: Tensor, slot_0_1: Tensor, slot_0_2: Tensor, coefficients: Tensor
    ) -> Tensor:
        found: Tensor = ops.predict(ops.cache_lookup([slot_0_0, slot_0_1, slot_0_2]), coefficients)
        return x + gate * found

    passes = (FuseUpdate(), LowerTransforms())
    return Node(
        f"banded predictor, {len(_EDGES) + 1} bands",
        "site",
        _at_a_step(in_bands, {**stream, "coefficients": like}, roles, passes),
        _at_a_step(plain, {**stream, "coefficients": like[0, 0]}, roles, passes),
    )


def _distance(value: Tensor, before: Tensor) -> tuple[Tensor, Tensor]:
    """What `InsertProbe` returns of an indicator: itself, and [mean change, mean size]."""
    return value, torch.stack([(value - before).abs().mean(), before.abs().mean()])


def _indicators(grid: tuple[int, ...], x: Tensor) -> list[Node]:
    """The modulated input as it is and through a matrix along each axis; the matrices of a step are inputs."""
    sea, low = fc.Filtered(), fc.BandLimited()
    roles: dict[str, Role] = {"before": "state"}

    def made(indicator: fc.Filtered | fc.BandLimited) -> list[Tensor]:
        return [matrix.float() for matrix in indicator.filters(grid, _TIMESTEP)]

    def plain(x: Tensor, before: Tensor) -> Any:
        return _distance(x, before)

    def filtered(x: Tensor, before: Tensor, *matrices: Tensor) -> Any:
        return _distance(transform(x, matrices), before)

    def node(indicator: fc.Filtered | fc.BandLimited) -> Callable[[], Any]:
        matrices = {f"argument_{number}": matrix for number, matrix in enumerate(made(indicator), 2)}
        controls: dict[str, Role] = dict.fromkeys(matrices, "control")
        return _at_a_step(filtered, {"x": x, "before": x + 1, **matrices}, {**roles, **controls})

    as_it_is = _at_a_step(plain, {"x": x, "before": x + 1}, roles)
    by_sea, by_band = node(sea), node(low)
    return [
        Node("SEA-filtered indicator", "step", by_sea, as_it_is),
        Node("SEA-filtered indicator, filter made anew", "step", lambda: (made(sea), by_sea()), as_it_is),
        Node("band-limited indicator", "step", by_band, as_it_is, is_in_preset=False),
    ]


def _scores(grid: tuple[int, ...], x: Tensor) -> list[Node]:
    """Energy of the change in a band against energy of the change; low-pass share of attention against its sum."""
    t, h, w = (1,) * (3 - len(grid)) + grid
    scene = Scene(Grid(t, h, w), 0)
    change: dict[str, Tensor] = {"x": x, "entered": x.flip(1)}
    share, received = fc.LowPassShare(), fc.AttentionReceived()
    attention = {"attention": (x @ x.mT / x.shape[-1] ** 0.5).softmax(-1)}
    roles: dict[str, Role] = {"entered": "state"}

    def energy(x: Tensor, entered: Tensor) -> Tensor:
        return normalize((x - entered).square().sum(-1), dim=1)

    def ranked(score: Score) -> Callable[[], Any]:
        def rank(x: Tensor, entered: Tensor) -> Tensor:
            return score.rank({"tokens": x, "entered": entered}, scene)

        return _at_a_step(rank, change, roles)

    def digested(score: fc.LowPassShare | fc.AttentionReceived) -> Callable[[], Any]:
        def digest(attention: Tensor) -> Tensor:
            return score.rank({score: score.digest(attention, scene)}, scene)

        return _at_a_step(digest, attention, {})

    plain = _at_a_step(energy, change, roles)
    high, low = (ranked(fc.BandEnergy(band, "change")) for band in ("high", "low"))
    return [
        Node("score: high-band energy of the change", "block", high, plain, is_in_preset=False),
        Node("score: low-band energy of the change", "block", low, plain, is_in_preset=False),
        Node("score: low-pass share of attention", "block", digested(share), digested(received), is_in_preset=False),
    ]
