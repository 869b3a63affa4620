"""What spectral nodes cost, as shares of the step that they save, and as matrix products against `torch.fft`.

Every node is measured as it runs: traced, lowered to ATen, and called on one feature [batch, tokens, channels]. The
step is the forward of a DiT with as many tokens. Of a predictor, an indicator or a score, what counts is the time that
it takes more than the same without a transform. `torch.fft` takes the real transform along the same axes, forward and
inverse. The package has the route by matrix products alone; results/spectral_cost.md shows what that costs or saves.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

import torch
from common import BATCH, FULL, QUICK, Inputs, Shape, Spread, build_model, read_arguments, relative_error
from results import Check, Column, Result
from spectral_nodes import Node, method_nodes
from torch import Tensor

from fouriercache import ops
from fouriercache.passes.lower_transforms import LowerTransforms
from fouriercache.spectral import grid_bases
from fouriercache.testing import trace

Grid = tuple[int, ...]
GRIDS: tuple[Grid, ...] = ((16, 16), (32, 32), (64, 64), (4, 16, 16))
QUICK_GRIDS: tuple[Grid, ...] = ((4, 4), (2, 2, 4))
KEEP = 0.25
LARGEST_SHARE = 0.01
LONG = 0.25
"""Seconds after which a node is not called again in the same round."""
ROUNDS, FEW = 6, 3
MANY_TOKENS = 1024
"""Steps of more tokens than these take many seconds: such a grid has few rounds."""
COLUMNS = (
    Column("grid", "grid"),
    Column("node", "node"),
    Column("ms", "node, ms", ".3f"),
    Column("plain_ms", "without transform, ms", ".3f"),
    Column("fft_ms", "torch.fft, ms", ".3f"),
    Column("over_fft", "product / torch.fft", ".2f"),
    Column("step_percent", "extra / full step, %", ".3f"),
    Column("most", "most in a step", "d"),
    Column("all_percent", "all of them, %", ".2f"),
    Column("error", "error against torch.fft in float64", ".1e"),
)
ABOUT = (
    "Times of one node on one feature, in turns, median and quartiles over the rounds; shares are of the forward of a "
    "model with as many tokens. Extra is the time over that of the same without a transform, in the same round: of a "
    "banded predictor over one with scalars for all frequencies (predict, gate and add), of a filtered indicator over "
    "the modulated input as it is, of the energy of a band over that of all frequencies, of the low-pass share of "
    "attention over its sum; without a transform there is no compress or expand, so of these it is all. Filters are "
    "made anew for every step of a first trajectory, and kept for those behind it. A stack site has one transform or "
    "predictor a step, branch sites two a block; a step has one indicator, and a block one score. `torch.fft` computes "
    "the real DFT of the same axes. The error is that of the float32 product against `torch.fft` in float64, relative, "
    "in L2."
)


def lowered(fn: Callable[[Tensor], Tensor], x: Tensor) -> Callable[[Tensor], Tensor]:
    """Return `fn` as the programs run it."""
    program = trace(fn, x)
    LowerTransforms().apply(program)
    module = program.module()
    return lambda value: module(value)[0]


def real_dft(x: Tensor, dim: int) -> Tensor:
    """The orthonormal real DFT of one axis by `torch.fft`: the mean, cosines and sines, then the alternating row."""
    size, x = x.shape[dim], x.movedim(dim, -1)
    spectrum = torch.fft.rfft(x, norm="ortho")
    pairs = torch.stack([spectrum.real, -spectrum.imag], dim=-1)[..., 1:, :].flatten(-2) * math.sqrt(2)
    found = torch.cat([spectrum.real[..., :1], pairs], dim=-1)[..., :size]
    if size % 2 == 0:
        found[..., -1] /= math.sqrt(2)
    return found.movedim(-1, dim)


def value_nodes(grid: Grid, x: Tensor) -> list[Node]:
    """The transforms of a kept value as the package runs them, by `torch.fft` too where that has such a thing."""
    there = [matrix.float().contiguous() for matrix in grid_bases(grid, "dft")]
    back = [matrix.T.contiguous() for matrix in there]
    few = [matrix.float().contiguous() for matrix in grid_bases(grid, "dct", keep=KEEP)]
    compress = lowered(lambda value: ops.fft_compress(value, there, 0), x)
    expand = lowered(lambda value: ops.fft_expand(value, back, 0), x)
    truncate = lowered(lambda value: ops.fft_compress(value, few, 0), x)
    kept = truncate(x)
    widen = [matrix.T.contiguous() for matrix in few]
    restore = lowered(lambda value: ops.fft_expand(value, widen, 0), kept)
    dims = tuple(range(1, len(grid) + 1))
    on_grid, coefficients = x.unflatten(1, grid), compress(x)
    spectrum = torch.fft.rfftn(on_grid, dim=dims, norm="ortho")
    exact = on_grid.double()
    for dim in dims:
        exact = real_dft(exact, dim)

    def there_by_fft() -> Tensor:
        found: Tensor = torch.fft.rfftn(on_grid, dim=dims, norm="ortho")
        return found

    def back_by_fft() -> Tensor:
        found: Tensor = torch.fft.irfftn(spectrum, s=grid, dim=dims, norm="ortho")
        return found

    whole = relative_error(coefficients, exact.flatten(1, -2))
    again = relative_error(expand(coefficients), x)
    return [
        Node("compress", "site", lambda: compress(x), fft=there_by_fft, error=whole),
        Node("expand", "site", lambda: expand(coefficients), fft=back_by_fft, error=again),
        Node(f"compress to {KEEP}", "site", lambda: truncate(x), is_in_preset=False),
        Node(f"expand from {KEEP}", "site", lambda: restore(kept), is_in_preset=False),
    ]


def seconds_of(call: Callable[[], Any], count: int) -> float:
    """Mean time of `count` calls, or of as many as begin in `LONG` seconds."""
    started, done, passed = time.perf_counter(), 0, 0.0
    while done < count and passed < LONG:
        call()
        done, passed = done + 1, time.perf_counter() - started
    return passed / done


Times = tuple[float, float | None, float | None]
"""Seconds of a node, of the same without a transform, and of `torch.fft`, in one round."""


def measure(result: Result, shape: Shape, grid: Grid, rounds: int, repeats: int) -> None:
    """Add the rows and checks of one grid."""
    side = math.isqrt(math.prod(grid))
    wide = Shape(shape.layers, shape.heads, shape.head_size, 2 * side)
    model, inputs = build_model(wide), Inputs.draw(wide, 2)
    call = inputs.call(inputs.noise, 1)
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(BATCH, math.prod(grid), shape.heads * shape.head_size, generator=generator)
    nodes = [*value_nodes(grid, x), *method_nodes(grid, x)]
    times: list[list[Times]] = [[] for _ in nodes]
    steps: list[float] = []
    for number in range(rounds + 1):
        for node, found in zip(nodes, times, strict=True):
            one = seconds_of(node.call, repeats)
            plain, fft = (seconds_of(other, repeats) if other else None for other in (node.plain, node.fft))
            if number:  # the first round warms up
                found.append((one, plain, fft))
        if number:
            steps.append(seconds_of(lambda: model(**call), 1))
    for node, found in zip(nodes, times, strict=True):
        _add(result, " x ".join(map(str, grid)), node, shape.layers, found, steps)


def _add(result: Result, grid: str, node: Node, layers: int, times: list[Times], steps: list[float]) -> None:
    """Add the row and the checks of one node."""
    extra = [one - (plain or 0.0) for one, plain, _ in times]
    plains = [plain for _, plain, _ in times if plain is not None]
    ffts = [(one, fft) for one, _, fft in times if fft is not None]
    share = Spread.of([more / step for more, step in zip(extra, steps, strict=True)])
    over = Spread.of([one / fft for one, fft in ffts]) if ffts else None
    most = node.most(layers)
    result.rows.append(
        {
            "grid": grid,
            "node": node.name,
            "is_in_preset": node.is_in_preset,
            "ms": Spread.of([one for one, _, _ in times]).times(1e3).as_dict(),
            "plain_ms": Spread.of(plains).times(1e3).as_dict() if plains else None,
            "fft_ms": Spread.of([fft for _, fft in ffts]).times(1e3).as_dict() if ffts else None,
            "over_fft": over.as_dict() if over else None,
            "step_percent": share.times(100).as_dict(),
            "most": most,
            "all_percent": share.times(100 * most).as_dict(),
            "error": node.error,
        }
    )
    result.checks.append(Check(f"{grid}, {node.name}: one node over a full step", share.median, LARGEST_SHARE))
    if over:
        result.checks.append(Check(f"{grid}, {node.name}: matrix product over torch.fft", over.median, 1.0))


@torch.no_grad()
def collect(*, is_quick: bool) -> Result:
    """Measure every grid."""
    shape, grids, repeats = (QUICK, QUICK_GRIDS, 2) if is_quick else (FULL, GRIDS, 10)
    rounds = {grid: 2 if is_quick else FEW if math.prod(grid) > MANY_TOKENS else ROUNDS for grid in grids}
    width = shape.heads * shape.head_size
    settings = {
        "model": f"DiT {shape.layers} x {width}",
        "batch": BATCH,
        "channels": width,
        "rounds": list(rounds.values()),
    }
    result = Result("spectral_cost", "Cost of spectral nodes", ABOUT, {**settings, "dtype": "float32"}, COLUMNS)
    for grid in grids:
        measure(result, shape, grid, rounds[grid], repeats)
    return result


def main() -> None:
    asked = read_arguments(__doc__)
    collect(is_quick=asked.quick).write(asked.out)


if __name__ == "__main__":
    main()
