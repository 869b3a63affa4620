"""How both demo models are trained: optimizers, learning rate, a moving average, and a run that can be broken off."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

HIGHEST_FREQUENCY = 0.03
"""Timestep sinusoids faster than this, in radians a timestep, get zero weight.

They turn by more than half a radian between two of 50 sampling steps, a short training leaves their weights as
noise, and the features of neighbouring steps then differ by that noise.
"""


@torch.no_grad()
def silence_fast_timesteps(weight: Tensor, shift: int) -> None:
    """Zero what reads timestep sinusoids above `HIGHEST_FREQUENCY`.

    Args:
        weight: of the linear that reads them, [width, 2 * half]. shift: diffusers' `downscale_freq_shift`.
    """
    half = weight.shape[1] // 2
    frequency = torch.exp(-math.log(10000) * torch.arange(half, device=weight.device) / (half - shift))
    weight[:, (frequency > HIGHEST_FREQUENCY).repeat(2)] = 0


def learning_rate(fraction: float, step: int) -> float:
    """Warm up over 200 steps, hold, and decay linearly over the last 30 % of the run."""
    return min(1.0, (step + 1) / 200) * min(1.0, max(0.0, 1 - fraction) / 0.3)


def optimizers(model: nn.Module) -> list[torch.optim.Optimizer]:
    """Muon for the blocks' matrices, AdamW for the rest."""
    matrices = [p for k, p in model.named_parameters() if p.ndim == 2 and "blocks" in k and "class_embedder" not in k]
    chosen = {id(p) for p in matrices}
    rest = [p for p in model.parameters() if id(p) not in chosen]
    return [
        torch.optim.Muon(matrices, lr=2e-3, momentum=0.95, weight_decay=0.01, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(rest, lr=1e-3, betas=(0.9, 0.98), weight_decay=0.0),
    ]


def stratified(n: int, generator: torch.Generator) -> Tensor:
    """One number from each of n equal parts of [0, 1), in random order."""
    return (torch.randperm(n, generator=generator) + torch.rand(n, generator=generator)) / n


SaveModel = Callable[[dict[str, Tensor], Path, dict[str, Any]], None]


class Run:
    """A training run that ends at a time, is saved every few minutes, and goes on from its own checkpoint.

    Iterating gives, before each step, the share of the time that has passed; `learn` takes the step.

    Attributes:
        step: steps taken. seen: samples seen. generator: the source of every random choice of a step.
    """

    def __init__(
        self, model: nn.Module, folder: Path, save_model: SaveModel, *, minutes: float, seed: int, save_every: float = 5
    ) -> None:
        self.step, self.seen = 0, 0
        self.generator = torch.Generator().manual_seed(seed + 1)
        self._model, self._folder, self._save_model = model, folder, save_model
        self._budget, self._save_every, self._seed = minutes * 60, save_every * 60, seed
        self._average = {k: v.detach().clone() for k, v in model.state_dict().items()}
        self._optimizers = optimizers(model)
        self._rates = [[group["lr"] for group in o.param_groups] for o in self._optimizers]
        self._history: list[list[Any]] = []
        self._running, self._fraction = 0.0, 0.0
        self._started = self._saved = time.time()
        folder.mkdir(parents=True, exist_ok=True)
        if self._checkpoint.exists():
            self._resume()

    def __iter__(self) -> Iterator[float]:
        while (passed := time.time() - self._started) < self._budget:
            self._fraction = passed / self._budget
            yield self._fraction
            if time.time() - self._saved > self._save_every or time.time() - self._started >= self._budget:
                self._save()

    def learn(self, loss: Tensor, samples: int, after: Callable[[], None], note: Any) -> None:
        """Take a step down the gradient of `loss`.

        Args:
            samples: how many it was measured on. after: called when the weights have changed, before they are averaged.
            note: what the step was taken on, for the record.
        """
        for o, rates in zip(self._optimizers, self._rates, strict=True):
            for group, rate in zip(o.param_groups, rates, strict=True):
                group["lr"] = rate * learning_rate(self._fraction, self.step)
        torch.autograd.backward(loss)
        for o in self._optimizers:
            o.step()
            o.zero_grad()
        after()
        decay = min(0.9995, 1 - 10 / (self.step + 10))
        for name, value in self._model.state_dict().items():
            self._average[name].lerp_(value.detach(), 1 - decay)
        self.step, self.seen = self.step + 1, self.seen + samples
        self._running = loss.item() if self._running == 0 else 0.98 * self._running + 0.02 * loss.item()
        if self.step % 50 == 0:
            passed = time.time() - self._started
            self._history.append([self.step, round(passed), note, round(self._running, 5)])
            print(f"step {self.step}  {passed / 60:.1f} min  {note}  {self.seen} seen  {self._running:.4f}", flush=True)

    @property
    def _checkpoint(self) -> Path:
        return self._folder / "checkpoint.pt"

    def _resume(self) -> None:
        state = torch.load(self._checkpoint, weights_only=True)
        self._model.load_state_dict(state["model"])
        self._average = state["average"]
        for o, s in zip(self._optimizers, state["optimizers"], strict=True):
            o.load_state_dict(s)
        self.step, self.seen, self._history = (state[k] for k in ("step", "images_seen", "history"))
        self._started = time.time() - state["elapsed"]
        self.generator.manual_seed(self._seed + 1 + self.step)
        print(f"resumed at step {self.step}, {state['elapsed'] / 60:.1f} min", flush=True)

    def _save(self) -> None:
        self._saved = time.time()
        state = {
            "model": self._model.state_dict(), "average": self._average,
            "optimizers": [o.state_dict() for o in self._optimizers], "step": self.step, "images_seen": self.seen,
            "elapsed": self._saved - self._started, "history": self._history,
        }  # fmt: skip
        torch.save(state, self._checkpoint.with_suffix(".new"))
        self._checkpoint.with_suffix(".new").replace(self._checkpoint)
        card = {k: state[k] for k in ("step", "images_seen", "elapsed", "history")} | {"seed": self._seed}
        self._save_model({k: v.cpu() for k, v in self._average.items()}, self._folder / "model", card)
        save_file({k: v.contiguous() for k, v in self._average.items()}, self._folder / "average.safetensors")
