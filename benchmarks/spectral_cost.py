"""What spectral nodes cost, as shares of the step that they save, and as matrix products against `torch.fft`.

Every node is measured as it runs: traced, lowered to ATen, and called on one feature [batch, tokens, channels]. The
step is the forward of a DiT with as many tokens. `torch.fft` takes the real transform along the same axes, forward and
inverse. The package has the route by matrix products alone; results/spectral_cost.md shows what that costs or saves.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from typing import Any

import torch
from common import BATCH, FULL, QUICK, Inputs, Shape, Spread, build_model, read_arguments, relative_error
from results import Check, Column, Result
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
COLUMNS = (
    Column("grid", "grid"),
    Column("node", "node"),
    Column("ms", "product, ms", ".3f"),
    Column("fft_ms", "torch.fft, ms", ".3f"),
    Column("over_fft", "product / torch.fft", ".2f"),
    Column("step_percent", "node / full step, %", ".3f"),
    Column("error", "error against torch.fft in float64", ".1e"),
)
ABOUT = (
    "Times of one node on one feature, in turns, median and quartiles over the rounds; shares are of the forward of a "
    "model with as many tokens, in the same round. A stack site has one such node a step, branch sites two a block. "
    "`torch.fft` computes the real DFT of the same axes. The error is that of the float32 product against "
    "`torch.fft` in float64, relative, in L2."
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


def nodes_of(grid: Grid, x: Tensor) -> Mapping[str, tuple[Callable[[], Any], Callable[[], Any] | None, float | None]]:
    """Each node as the package runs it, by `torch.fft` if there is such a thing, and the error of the first."""
    there = [matrix.float().contiguous() for matrix in grid_bases(grid, "dft")]
    back = [matrix.T.contiguous() for matrix in there]
    few = [matrix.float().contiguous() for matrix in grid_bases(grid, "dct", keep=KEEP)]
    compress = lowered(lambda value: ops.fft_compress(value, there, 0), x)
    expand = lowered(lambda value: ops.fft_expand(value, back, 0), x)
    truncate = lowered(lambda value: ops.fft_compress(value, few, 0), x)
    kept = truncate(x)
    restore = lowered(lambda value: ops.fft_expand(value, [matrix.T.contiguous() for matrix in few], 0), kept)
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

    return {
        "compress": (lambda: compress(x), there_by_fft, relative_error(coefficients, exact.flatten(1, -2))),
        "expand": (lambda: expand(coefficients), back_by_fft, relative_error(expand(coefficients), x)),
        f"compress to {KEEP}": (lambda: truncate(x), None, None),
        f"expand from {KEEP}": (lambda: restore(kept), None, None),
    }


def seconds_of(call: Callable[[], Any], count: int) -> float:
    started = time.perf_counter()
    for _ in range(count):
        call()
    return (time.perf_counter() - started) / count


def measure(result: Result, shape: Shape, grid: Grid, rounds: int, repeats: int) -> None:
    """Add the rows and checks of one grid."""
    side = math.isqrt(math.prod(grid))
    wide = Shape(shape.layers, shape.heads, shape.head_size, 2 * side)
    model, inputs = build_model(wide), Inputs.draw(wide, 2)
    call = inputs.call(inputs.noise, 1)
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(BATCH, math.prod(grid), shape.heads * shape.head_size, generator=generator)
    nodes = nodes_of(grid, x)
    times: dict[str, list[tuple[float, float | None]]] = {name: [] for name in nodes}
    steps: list[float] = []
    for number in range(rounds + 1):
        step = seconds_of(lambda: model(**call), 1)
        found = {
            name: (seconds_of(ours, repeats), seconds_of(fft, repeats) if fft else None)
            for name, (ours, fft, _) in nodes.items()
        }
        if number:  # the first round warms up
            steps.append(step)
            for name, pair in found.items():
                times[name].append(pair)
    words = " x ".join(map(str, grid))
    for name, pairs in times.items():
        ours = [mine for mine, _ in pairs]
        ffts = [(mine, fft) for mine, fft in pairs if fft is not None]
        shares = Spread.of([mine / step for mine, step in zip(ours, steps, strict=True)])
        over = Spread.of([mine / fft for mine, fft in ffts]) if ffts else None
        result.rows.append(
            {
                "grid": words,
                "node": name,
                "ms": Spread.of(ours).times(1e3).as_dict(),
                "fft_ms": Spread.of([fft for _, fft in ffts]).times(1e3).as_dict() if ffts else None,
                "over_fft": over.as_dict() if over else None,
                "step_percent": shares.times(100).as_dict(),
                "error": nodes[name][2],
            }
        )
        result.checks.append(Check(f"{words}, {name}: one node over a full step", shares.median, LARGEST_SHARE))
        if over:
            result.checks.append(Check(f"{words}, {name}: matrix product over torch.fft", over.median, 1.0))


@torch.no_grad()
def collect(*, is_quick: bool) -> Result:
    """Measure every grid."""
    shape, grids, rounds, repeats = (QUICK, QUICK_GRIDS, 2, 2) if is_quick else (FULL, GRIDS, 6, 10)
    width = shape.heads * shape.head_size
    settings = {"model": f"DiT {shape.layers} x {width}", "batch": BATCH, "channels": width, "rounds": rounds}
    result = Result("spectral_cost", "Cost of spectral nodes", ABOUT, {**settings, "dtype": "float32"}, COLUMNS)
    for grid in grids:
        measure(result, shape, grid, rounds, repeats)
    return result


def main() -> None:
    asked = read_arguments(__doc__)
    collect(is_quick=asked.quick).write(asked.out)


if __name__ == "__main__":
    main()
