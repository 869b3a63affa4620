"""The story on one screen: capture -> passes -> backend."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from torch import nn

from fouriercache.calibrations import Calibration
from fouriercache.calls import Binder, has_values
from fouriercache.capture import Capture, capture
from fouriercache.disk_cache import CaptureCache
from fouriercache.errors import CalibrationError, CaptureError, MethodError
from fouriercache.methods import Method
from fouriercache.passes.pipeline import build_steps
from fouriercache.paths import path_of
from fouriercache.preconditions import check_eval_mode, check_not_offloaded, check_uncached
from fouriercache.presets import method_for
from fouriercache.program import NoMatch, TokenGrid
from fouriercache.runtime.backend import backend_from_name
from fouriercache.runtime.module import OptimizedModule, compiled_by_torch
from fouriercache.runtime.rules import Rules
from fouriercache.steps import Steps

CACHE_DIR = "FOURIERCACHE_CACHE_DIR"
"""The variable of the environment that says where captures are kept when `optimize` is not told."""


def optimize(
    model: nn.Module,
    method: Method | str,
    *,
    num_steps: int | None = None,
    calibration: Calibration | str | Path | None = None,
    example_inputs: Mapping[str, Any] | None = None,
    backend: str = "eager",
    grid: TokenGrid | None = None,
    passes_per_step: int | None = None,
    direction: Literal["down", "up"] = "down",
    sample_name: str | None = None,
    timestep_name: str | None = None,
    check_finite: bool = True,
    cache_dir: str | Path | None = None,
) -> OptimizedModule:
    """Return a drop-in module that computes `model` with its features cached between denoising steps.

    `pipe.transformer = fc.optimize(pipe.transformer, fc.TaylorSeer(interval=5), num_steps=50)` is the whole
    integration. The model is captured with torch.export at the first call of each new form (shape, dtype, device,
    constants), or from `example_inputs`; it is not changed, and its weights are shared.

    Args:
        model: a diffusion transformer in eval mode.
        method: what to cache, when, and how to predict it; a preset's name means the preset with its defaults, made
            for `num_steps` if it is made for a number of steps (Spectrum).
        num_steps: denoising steps of a trajectory; needed by schedules that count from the end (FORA).
        calibration: what `fouriercache.calibrate` found for this model, method and sampler, or its file. It takes the
            place of the method's schedule, and says `num_steps`. A call at another timestep than it was made with is
            refused.
        example_inputs: keyword arguments of one call, to capture now; on meta or fake tensors, too, for
            `report` and `program` without weights.
        backend: "eager" or "inductor" (torch.compile of each step mode); on a GPU also "cudagraphs" or
            "inductor+cudagraphs", the same recorded in a CUDA graph for each mode.
        grid: the token grid, when the graph does not show it (packed models such as FLUX).
        passes_per_step: model calls a step (separate CFG passes); learnt from the first step when not given.
        direction: "down" when the timesteps fall in a trajectory, "up" when they rise.
        sample_name, timestep_name: names of the arguments that hold latents and timestep, when found wrong.
        check_finite: refuse results with NaN or inf, so that they are not cached. A GPU's answer is not waited for: a
            later call raises, at the latest the last of a trajectory of known length, and the trajectory is dropped.
        cache_dir: a folder to keep captures in, so that another process finds them; None means the one that the
            environment variable FOURIERCACHE_CACHE_DIR names, and if that is not set, to keep none. Weights are not
            kept. A capture is found as long as the model's structure, its code, the call's form and the versions of
            torch and Python are the same.

    Returns:
        A module with the model's own signature and output type.

    Raises:
        MethodError: an unknown method or backend, a `grid` that is none, or a schedule that needs `num_steps`.
        LoweringError: there is no GPU, and the backend needs one.
        CalibrationError: the calibration cannot be read, or was made for another model, method or number of steps.
        PathError: a path is none.
        CacheFolderError: `cache_dir` cannot be made or written to, or others can write to it or to a folder above it.
        CaptureError: `model` is not a plain eval-mode module, or (with `example_inputs`) cannot be captured.
        UnsupportedModelError: (with `example_inputs`) there is no site to cache, or `grid` fits no token stream.
    """
    _check_model(model)
    found = None if calibration is None else _read(calibration)
    if num_steps is None and found is not None:
        num_steps = found.num_steps
    chosen = method_for(method, num_steps) if isinstance(method, str) else method
    if not isinstance(chosen, Method):
        raise MethodError(
            f"method is a {type(chosen).__name__}, not a Method.\n  Pass a preset: fc.FORA(interval=3), or its name."
        )
    if type(check_finite) is not bool:
        raise MethodError(f"check_finite is {check_finite!r}, not True or False.")
    kept_in = os.environ.get(CACHE_DIR) or None if cache_dir is None else cache_dir
    cache = None if kept_in is None else CaptureCache(path_of(kept_in).absolute())
    timesteps: tuple[float, ...] | None = None
    if found is not None:
        chosen, timesteps = found.apply(chosen, model, num_steps), found.timesteps

    if grid is not None and not isinstance(grid, TokenGrid):
        raise MethodError(
            f"grid is a {type(grid).__name__}, not a TokenGrid.\n"
            "  Pass fc.TokenGrid(t, h, w): frames, rows, and tokens in a row."
        )
    fast = OptimizedModule(
        model,
        _Build(chosen, grid, sample_name, timestep_name, check_finite, cache=cache),
        backend_from_name(backend),
        Rules(chosen, num_steps, passes_per_step, direction, timesteps),
        check_finite=check_finite,
    )
    if example_inputs is not None:
        fast.capture(example_inputs)
    return fast


def optimize_captured(
    model: nn.Module,
    captured: Capture,
    method: Method,
    *,
    example_inputs: Mapping[str, Any],
    num_steps: int | None = None,
    grid: TokenGrid | None = None,
    backend: str = "eager",
    check_finite: bool = True,
) -> OptimizedModule:
    """Return what `optimize` does, for a model that was captured before: so several methods share the costly part.

    Args:
        captured: of this model, which has not changed since, and of calls like `example_inputs`. Calls of another form
            are captured as they come.
    """
    rules = Rules(method, num_steps, None, "down", None)
    build = _Build(method, grid, None, None, True, captured)
    fast = OptimizedModule(model, build, backend_from_name(backend), rules, check_finite=check_finite)
    fast.capture(example_inputs)
    return fast


def _read(calibration: object) -> Calibration:
    if not isinstance(calibration, Calibration | str | Path):
        raise CalibrationError(
            f"calibration is a {type(calibration).__name__}, no calibration.\n"
            "  Pass what fouriercache.calibrate returned, or the file it was saved to."
        )
    return calibration if isinstance(calibration, Calibration) else Calibration.load(calibration)


def _check_model(model: object) -> None:
    if not isinstance(model, nn.Module):
        parts = [name for name in ("transformer", "unet") if hasattr(model, name)]
        hint = f"  Pass its denoiser: optimize(pipe.{parts[0]}, ...)." if parts else "  Pass the denoiser module."
        raise CaptureError(f"model is a {type(model).__name__}, not a torch.nn.Module.\n{hint}")
    if isinstance(model, OptimizedModule):
        raise CaptureError("model is optimised already.\n  Pass the original: optimize(fast.model, ...).")
    if compiled_by_torch(model):
        raise CaptureError(
            "model came out of torch.compile, whose graph cannot be captured again.\n"
            "  Pass the module it was made from, and backend='inductor' to compile the cached graphs."
        )
    check_eval_mode(model)
    check_uncached(model)
    check_not_offloaded(model)


@dataclass(frozen=True)
class _Build:
    """From a model and one call to the programs of its steps. It is data, so an optimised module can be pickled."""

    method: Method
    grid: TokenGrid | None
    sample_name: str | None
    timestep_name: str | None
    is_finite: bool
    captured: Capture | None = None
    cache: CaptureCache | None = None

    def __call__(
        self, model: nn.Module, arguments: Mapping[str, Any], fixed: NoMatch | None, ready: Callable[[], None]
    ) -> Steps:
        known = self.captured if fixed is None else None
        if known is not None and known.serves(Binder(model).flatten(arguments)):
            return build_steps(known, self.method, self.grid)
        captured = capture(
            model,
            arguments,
            sample_name=self.sample_name,
            timestep_name=self.timestep_name,
            verify=has_values(arguments),
            is_finite=self.is_finite,
            fixed=fixed,
            cache=self.cache,
            ready=ready,
        )
        return build_steps(captured, self.method, self.grid)
