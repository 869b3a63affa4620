"""What TeaCache and SeaCache should give on the tiny DiT, by brute force."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

import fouriercache as fc
from tests.tiny import TIMESTEPS, finish

STEPS = len(TIMESTEPS)
THRESHOLD = 0.2  # of the bare change: some steps are computed between the ends, some are not
NOISE = fc.DDPM([1 - 0.9 * t / 1000 for t in range(1001)])


def sea_filtered(timestep: Tensor, x: Tensor) -> Tensor:
    """SeaCache's filter of tokens [batch, 16, width] on their 4 x 4 grid, by one complex transform."""
    a, b = NOISE.levels(float(timestep[0]))
    power = 1 / (torch.fft.fftfreq(4, dtype=torch.float64).abs() ** 2 + 1e-16)
    gain = a * power / (a * a * power + b * b + 1e-16)
    gain = gain[:, None] * gain
    grid = torch.fft.fftn(x.unflatten(1, (4, 4)).double(), dim=(1, 2)) * (gain / gain.mean())[None, :, :, None]
    found: Tensor = torch.fft.ifftn(grid, dim=(1, 2)).real.flatten(1, 2)
    return found


class BruteTeaCache:
    """TeaCache by hand: the live modules of `model`, the rule as TeaCache4FLUX/teacache_flux.py has it.

    The residual of all blocks is kept; between computed steps it is the last one, or on the straight line through the
    last two.
    """

    def __init__(
        self,
        model: Any,
        *,
        is_line: bool = False,
        threshold: float = THRESHOLD,
        through: Callable[[Tensor, Tensor], Tensor] = lambda timestep, modulated: modulated,
    ) -> None:
        self.model, self.is_line, self.threshold, self.through = model, is_line, threshold, through
        self.step, self.accumulated = 0, 0.0
        self.before = torch.zeros(())
        self.residuals: list[tuple[int, Tensor]] = []
        self.distances: list[float] = []

    @property
    def computed(self) -> tuple[int, ...]:
        return tuple(step for step, _ in self.residuals)

    def __call__(self, hidden_states: Tensor, timestep: Tensor, class_labels: Tensor) -> Any:
        x = self.model.pos_embed(hidden_states)
        if self._should_compute(timestep, self._modulated(x, timestep, class_labels)):
            after = x
            for block in self.model.transformer_blocks:
                after = block(after, timestep=timestep, class_labels=class_labels)
            self.residuals.append((self.step, after - x))
        self.step += 1
        return finish(self.model, x + self._residual(self.step - 1), timestep, class_labels)

    def _modulated(self, x: Tensor, timestep: Tensor, class_labels: Tensor) -> Tensor:
        norm = self.model.transformer_blocks[0].norm1
        shift, scale = norm.linear(F.silu(norm.emb(timestep, class_labels, hidden_dtype=x.dtype))).chunk(6, dim=1)[:2]
        return self.through(timestep, norm.norm(x) * (1 + scale[:, None]) + shift[:, None])

    def _should_compute(self, timestep: Tensor, modulated: Tensor) -> bool:
        before, self.before = self.before, modulated
        if self.step not in (0, STEPS - 1):
            self.distances.append(float((modulated - before).abs().mean() / before.abs().mean()))
            self.accumulated += self.distances[-1]
            if self.accumulated < self.threshold:
                return False
        self.accumulated = 0.0
        return True

    def _residual(self, step: int) -> Tensor:
        (before, old), (last, new) = [self.residuals[0], *self.residuals][-2:]
        if not self.is_line or before == last:
            return new
        return new + (new - old) * ((step - last) / (last - before))
