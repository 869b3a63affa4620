"""Other ways to cache the same model: by hand, with diffusers' hooks, with cache-dit. Each on its own copy of the
module, with the very same weights.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from itertools import count
from typing import Any

import torch
import torch.nn.functional as F
from common import Denoiser, Model, share_weights, unpatchify
from diffusers import (
    DiTTransformer2DModel,
    FirstBlockCacheConfig,
    MagCacheConfig,
    PyramidAttentionBroadcastConfig,
    SeaCacheConfig,
    TaylorSeerCacheConfig,
)
from diffusers.models.cache_utils import CacheMixin
from thresholds import flow_level, frames
from torch import Tensor

from fouriercache.errors import MissingExtraError
from fouriercache.extras import install_line


def nothing() -> None:
    """Begin a trajectory that needs no beginning."""


@dataclass(frozen=True)
class Peer:
    """One way to cache.

    `begin` is called before each trajectory, in its time. `holder` is what the cached tensors hang on. `schedule` says
    in words which steps it computes.
    """

    name: str
    model: Denoiser
    begin: Callable[[], None]
    holder: object
    schedule: str


class WholeStack:
    """The floor: the residual of the whole stack of blocks, kept and added again, written out by hand.

    Steps are counted by calls; `begin` starts a trajectory.
    """

    def __init__(self, model: Model, computed: Sequence[int]) -> None:
        self.model, self.computed = model, frozenset(computed)
        self.residual: Tensor | None = None
        self.step = 0

    def begin(self) -> None:
        """Start a trajectory."""
        self.residual, self.step = None, 0

    def __call__(self, hidden_states: Tensor, timestep: Tensor, class_labels: Tensor) -> Any:
        """The forward of DiTTransformer2DModel, with its loop over blocks left out in cached steps."""
        model = self.model
        embedded = model.pos_embed(hidden_states)
        if self.step in self.computed:
            stream = embedded
            for block in model.transformer_blocks:
                stream = block(stream, timestep=timestep, class_labels=class_labels)
            self.residual = stream - embedded
        else:
            stream = embedded + self.residual
        self.step += 1
        emb = model.transformer_blocks[0].norm1.emb(timestep, class_labels, hidden_dtype=stream.dtype)
        shift, scale = model.proj_out_1(F.silu(emb)).chunk(2, dim=1)
        stream = model.proj_out_2(model.norm_out(stream) * (1 + scale[:, None]) + shift[:, None])
        return _Sample(unpatchify(model, stream))


@dataclass(frozen=True)
class _Sample:
    sample: Tensor


class _DiTWithCache(DiTTransformer2DModel, CacheMixin):
    """A DiT with `enable_cache` and `cache_context`, which diffusers gives to its newer models only."""


def by_hand(model: Model, computed: Sequence[int]) -> Peer:
    """The whole-stack residual cache written by hand."""
    cached = WholeStack(share_weights(model), computed)
    return Peer("by hand: whole-stack residual", cached, cached.begin, cached, "as given")


_HOOKS = "diffusers TaylorSeer, order {}, attention + ff"
HOOKS = _HOOKS.format(1)


def taylorseer_hooks(model: Model, order: int = 1) -> Peer:
    """The TaylorSeer hook of diffusers on every attention and feed-forward, in float32."""
    config = TaylorSeerCacheConfig(
        cache_interval=4,
        disable_cache_before_step=1,
        max_order=order,
        taylor_factors_dtype=torch.float32,
        cache_identifiers=[r"transformer_blocks\.\d+\.(attn1|ff)"],
    )
    return _hooked(_HOOKS.format(order), model, config, "steps 0, 2, 6, 10, ...")


def mag_cache(model: Model, steps: int) -> Peer:
    """The MagCache of diffusers with all magnitude ratios 1, so that `max_skip_steps` alone sets the schedule."""
    config = MagCacheConfig(
        threshold=1.0, max_skip_steps=3, retention_ratio=0.0, num_inference_steps=steps, mag_ratios=[1.0] * steps
    )
    return _hooked("diffusers MagCache, ratios 1", model, config, "steps 0, 4, 8, ...")


def first_block_cache(model: Model, threshold: float) -> Peer:
    """The FirstBlockCache of diffusers; block 0 runs in every step and decides about the others."""
    config = FirstBlockCacheConfig(threshold=threshold)
    return _hooked("diffusers FirstBlockCache", model, config, f"threshold {threshold:.4g}")


def sea_cache(
    model: Model, threshold: float, steps: int, order: int, level: Callable[[float], float] = flow_level
) -> Peer:
    """The SeaCache of diffusers: the residual of the whole stack, reused (order 0) or extrapolated (order 1).

    It decides by the change of the filtered latents, summed up since the last computed step; `threshold` alone sets how
    many steps are computed, as its limit of 2 cached steps in a row is lifted. diffusers has no adapter for a DiT: what
    is compared is given as its documentation asks, each sample as one frame. `level` is the noise level of a timestep.
    """
    config = SeaCacheConfig(
        threshold=threshold,
        residual_order=order,
        max_consecutive_cached=0,
        raw_vision_callback=lambda _, __, given: frames(given["hidden_states"]),
    )
    return _hooked(f"diffusers SeaCache, order {order}", model, config, f"threshold {threshold:.4g}", steps, level)


PAB = "diffusers PAB, attention only"


def pyramid_attention_broadcast(model: Model) -> Peer:
    """The PAB of diffusers: every attention's output, before its gate, is computed in one step of four, in all of the
    trajectory; MLPs are always computed. A DiT has spatial attention alone.
    """
    now: list[int] = []
    config = PyramidAttentionBroadcastConfig(
        spatial_attention_block_skip_range=4,
        spatial_attention_timestep_skip_range=(-1, 1000),
        current_timestep_callback=lambda: now[-1],
    )
    peer = _hooked(PAB, model, config, "attention: steps 0, 4, 8, ...")

    def call(**arguments: Tensor) -> Any:
        now[:] = [int(arguments["timestep"][0])]  # as a pipeline's `current_timestep`
        return peer.model(**arguments)

    return replace(peer, model=call)


def cache_dit_block(model: Model, computed: Sequence[int], steps: int, *, taylor: bool) -> Peer:
    """cache-dit's DBCache F1B0: block 0 runs in every step; with `taylor`, the residual is extrapolated, order 1.

    The computed steps are given as a mask; the difference of residuals is measured as always and never too large.

    Raises:
        MissingExtraError: cache-dit is not installed.
    """
    options = {
        "Fn_compute_blocks": 1,
        "Bn_compute_blocks": 0,
        "max_warmup_steps": 1,
        "residual_diff_threshold": 1e9,
        "steps_computation_mask": [int(step in computed) for step in range(steps)],
        "steps_computation_policy": "dynamic",
    }
    name = "cache-dit DBCache F1B0" + (" + TaylorSeer, order 1" if taylor else "")
    return _cache_dit(name, model, steps, options, "as given", taylor=taylor)


def cache_dit_default(model: Model, steps: int) -> Peer:
    """cache-dit's DBCache as it comes, F8B0: it decides by its own threshold, after its own warm-up.

    Raises:
        MissingExtraError: cache-dit is not installed.
    """
    return _cache_dit("cache-dit DBCache, as it comes", model, steps, {}, "its own, threshold 0.08", taylor=False)


def _cache_dit(name: str, model: Model, steps: int, options: dict[str, Any], schedule: str, *, taylor: bool) -> Peer:
    os.environ.setdefault("CACHE_DIT_LOG_LEVEL", "error")
    try:
        import cache_dit
    except ImportError as error:
        raise MissingExtraError(
            f"cache-dit is not installed, and this benchmark compares with it.\n  {install_line('bench')}"
        ) from error
    copied = share_weights(model)
    calibrator = cache_dit.TaylorSeerCalibratorConfig(taylorseer_order=1) if taylor else None
    config = cache_dit.DBCacheConfig(num_inference_steps=steps, **options)
    cache_dit.enable_cache(copied, cache_config=config, calibrator_config=calibrator)

    def begin() -> None:  # outside of a pipeline it goes on counting steps from run to run
        cache_dit.refresh_context(copied)

    return Peer(name, copied, begin, copied._context_manager, schedule)


def _hooked(
    name: str,
    model: Model,
    config: Any,
    schedule: str,
    steps: int | None = None,
    level: Callable[[float], float] = flow_level,
) -> Peer:
    """A copy of the model with one of diffusers' caches; with `steps`, each call is told where the loop is."""
    copied = share_weights(model)
    copied.__class__ = _DiTWithCache
    copied.enable_cache(config)
    hooks = [module._diffusers_hook.hooks for module in copied.modules() if getattr(module, "_diffusers_hook", None)]
    counter = count()

    def begin() -> None:
        nonlocal counter
        counter = count()
        copied._reset_stateful_cache()

    def call(**arguments: Tensor) -> Any:
        place = {}
        if steps is not None:
            sigma = level(float(arguments["timestep"][0]))
            place = {"step_index": next(counter), "sigma": sigma, "num_inference_steps": steps}
        context: AbstractContextManager[None] = copied.cache_context("both", **place)
        with context:
            return copied(**arguments)

    return Peer(name, call, begin, hooks, schedule)


def held_bytes(holder: object) -> int:
    """Bytes of the tensors that hang on an object, weights left out, every storage once."""
    seen: set[int] = set()
    storages: dict[int, int] = {}
    todo = [holder]
    while todo:
        here = todo.pop()
        if id(here) in seen or isinstance(here, torch.nn.Module | type):
            continue
        seen.add(id(here))
        if isinstance(here, Tensor):
            if here.numel() > 1:  # single numbers are settings, not features
                storages[here.untyped_storage()._cdata] = here.untyped_storage().nbytes()
        else:
            todo.extend(_members(here))
    return sum(storages.values())


def _members(value: object) -> Iterable[object]:
    if isinstance(value, dict):
        return list(value.values())
    if isinstance(value, list | tuple | set):
        return list(value)
    return list(getattr(value, "__dict__", {}).values())
