"""Cached steps written out by hand, as one would for one model: what they take in PyTorch with nothing around them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from common import Inputs, Model, unpatchify
from torch import Tensor

from fouriercache.predictors import Predictor


class _Conditioning(NamedTuple):
    """Of a step: shift and scale of the last norm, f32[b, 1, c]; what each kept feature is multiplied by.

    `factors` are f32[] or f32[b, 1, c], for each site, the newest feature first.
    """

    shift: Tensor
    scale: Tensor
    factors: list[list[Tensor]]


class HandWritten:
    """A cache for one model, one loop and one schedule, with nothing in it that any other would need.

    It looks at no input, checks nothing, and keeps the order of calls to itself. With `is_prepared`, what depends on
    timestep and class is there before the loop begins, the factors of all kept features among it. Computed steps are
    the model's own forward, watched by hooks; patches, and without `is_prepared` embeddings, are the model's own, too.

    Args:
        model: a DiTTransformer2DModel, hooked from here on. inputs: of the loop. computed: its computed steps.
        site: "stack", or "branch" for attention and MLP of each block. predictor: gives the scalars.
        compile_step: what is made of the cached step, such as torch.compile.
    """

    def __init__(self, model: Model, inputs: Inputs, computed: Sequence[int], site: str, predictor: Predictor, *,
                 is_prepared: bool, compile_step: Callable[[Any], Any] | None = None) -> None:  # fmt: skip
        self._model, self._inputs, self._is_branch = model, inputs, site == "branch"
        self._computed, self._predictor = frozenset(computed), predictor
        self._step_alone: Callable[..., Tensor] = (compile_step or (lambda step: step))(self._cached)
        self._step_whole: Callable[..., Tensor] = (compile_step or (lambda step: step))(self._conditioned)
        stamps = [inputs.call(inputs.noise, step)["timestep"] for step in range(len(inputs.timesteps))]
        self._scalars = [torch.tensor(self._coefficients(step)) for step in range(len(stamps))]
        pairs = zip(stamps, self._scalars, strict=True)
        self._prepared = [self._condition(stamp, inputs.labels, own) for stamp, own in pairs] if is_prepared else []
        self._seen: list[Tensor] = []
        self._kept: list[list[Tensor]] = []
        self._number = 0
        if self._is_branch:
            for block in model.transformer_blocks:
                for part in (block.attn1, block.ff):
                    part.register_forward_hook(lambda _, __, result: self._seen.append(result))
        else:
            first, last = model.transformer_blocks[0], model.transformer_blocks[-1]
            first.register_forward_pre_hook(lambda _, given: self._seen.append(given[0]))
            last.register_forward_hook(lambda _, __, result: self._seen.append(result - self._seen.pop()))

    def __call__(self, hidden_states: Tensor, timestep: Tensor, class_labels: Tensor) -> Tensor:
        """The model's step, [b, 4, h, w] to [b, channels, h, w]."""
        step = self._number % len(self._inputs.timesteps)
        self._number += 1
        if step in self._computed:
            self._seen.clear()
            result: Tensor = self._model(hidden_states, timestep, class_labels).sample
            older = self._kept if step else [[] for _ in self._seen]
            self._kept = [[new, *old][: self._predictor.history] for new, old in zip(self._seen, older, strict=True)]
            return result
        if self._prepared:
            return self._step_alone(hidden_states, self._prepared[step], self._kept)
        return self._step_whole(hidden_states, timestep, class_labels, self._kept, self._scalars[step])

    def _coefficients(self, step: int) -> tuple[float, ...]:
        """What each kept feature counts at a step, the newest first."""
        behind = tuple(computed for computed in sorted(self._computed) if computed < step)
        if step in self._computed or not behind:
            return ()
        return self._predictor.table(behind, step)[0][0]

    def _conditioned(
        self, latents: Tensor, timestep: Tensor, labels: Tensor, kept: list[list[Tensor]], scalars: Tensor
    ) -> Tensor:
        return self._cached(latents, self._condition(timestep, labels, scalars), kept)

    def _condition(self, timestep: Tensor, labels: Tensor, scalars: Tensor) -> _Conditioning:
        model = self._model
        first = F.silu(model.transformer_blocks[0].norm1.emb(timestep, labels))
        shift, scale = model.proj_out_1(first)[:, None].chunk(2, dim=2)
        if not self._is_branch:
            return _Conditioning(shift, 1 + scale, [list(scalars)])
        gates = []
        for block in model.transformer_blocks:
            given = F.silu(block.norm1.emb(timestep, labels))
            for chunk in (2, 5):  # of shift, scale, gate for attention and MLP
                width = given.shape[1]
                rows = slice(chunk * width, (chunk + 1) * width)
                gates.append(F.linear(given, block.norm1.linear.weight[rows], block.norm1.linear.bias[rows]))
        factors = torch.stack(gates)[:, None, :, None] * scalars[:, None, None, None]
        return _Conditioning(shift, 1 + scale, [list(site) for site in factors])

    def _cached(self, latents: Tensor, given: _Conditioning, kept: list[list[Tensor]]) -> Tensor:
        model = self._model
        stream = model.pos_embed(latents).contiguous()
        for features, factors in zip(kept, given.factors, strict=True):
            for feature, factor in zip(features, factors, strict=True):
                stream.addcmul_(feature, factor)
        modulated = torch.addcmul(given.shift, model.norm_out(stream), given.scale)
        return unpatchify(model, model.proj_out_2(modulated))
