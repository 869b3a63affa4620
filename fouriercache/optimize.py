"""The story on one screen: capture -> passes -> backend."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn
from torch._subclasses import FakeTensor

from fouriercache.calibrations import Calibration
from fouriercache.capture import capture
from fouriercache.errors import CaptureError, MethodError
from fouriercache.methods import Method
from fouriercache.passes.pipeline import build_steps
from fouriercache.presets import method_from_name
from fouriercache.program import TokenGrid
from fouriercache.runtime.backend import backend_from_name
from fouriercache.runtime.module import OptimizedModule, compiled_by_torch
from fouriercache.runtime.session import Session
from fouriercache.steps import Steps
from fouriercache.tokens import partial_tokens


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
) -> OptimizedModule:
    """Return a drop-in module that computes `model` with its features cached between denoising steps.

    `pipe.transformer = fc.optimize(pipe.transformer, fc.TaylorSeer(interval=5), num_steps=50)` is the whole
    integration. The model is captured with torch.export at the first call of each new form (shape, dtype, device,
    constants), or from `example_inputs`; it is not changed, and its weights are shared.

    Args:
        model: a diffusion transformer in eval mode.
        method: what to cache, when, and how to predict it; a preset's name means the preset with its defaults.
        num_steps: denoising steps of a trajectory; needed by schedules that count from the end (FORA).
        calibration: what `fouriercache.calibrate` found for this model, method and sampler, or its file. It takes the
            place of the method's schedule, and says `num_steps`. A call at another timestep than it was made with is
            refused.
        example_inputs: keyword arguments of one call, to capture now; on meta or fake tensors, too, for
            `report` and `program` without weights.
        backend: "eager" or "inductor" (torch.compile of each step mode).
        grid: the token grid, when the graph does not show it (packed models such as FLUX).
        passes_per_step: model calls a step (separate CFG passes); learnt from the first step when not given.
        direction: "down" when the timesteps fall in a trajectory, "up" when they rise.
        sample_name, timestep_name: names of the arguments that hold latents and timestep, when found wrong.
        check_finite: refuse results with NaN or inf, so that they are not cached; reads one value a call.

    Returns:
        A module with the model's own signature and output type.

    Raises:
        MethodError: an unknown method or backend, or a schedule that needs `num_steps`.
        CalibrationError: the calibration cannot be read, or was made for another model, method or number of steps.
        CaptureError: `model` is not a plain eval-mode module, or (with `example_inputs`) cannot be captured.
        UnsupportedModelError: (with `example_inputs`) there is no site to cache.
    """
    _check_model(model)
    chosen = method_from_name(method) if isinstance(method, str) else method
    if not isinstance(chosen, Method):
        raise MethodError(
            f"method is a {type(chosen).__name__}, not a Method.\n  Pass a preset: fc.FORA(interval=3), or its name."
        )
    timesteps: tuple[float, ...] | None = None
    if calibration is not None:
        found = calibration if isinstance(calibration, Calibration) else Calibration.load(calibration)
        num_steps = found.num_steps if num_steps is None else num_steps
        chosen, timesteps = found.apply(chosen, model, num_steps), found.timesteps

    tokens = partial_tokens(chosen.tokens)

    def build(module: nn.Module, arguments: Mapping[str, Any]) -> Steps:
        captured = capture(
            module,
            arguments,
            sample_name=sample_name,
            timestep_name=timestep_name,
            verify=not _has_no_values(arguments),
        )
        return build_steps(captured, chosen, grid)

    fast = OptimizedModule(
        model,
        chosen,
        build,
        backend_from_name(backend),
        lambda: Session(chosen.schedule, chosen.predictor, num_steps, passes_per_step, direction, timesteps, tokens),
        check_finite=check_finite,
    )
    if example_inputs is not None:
        fast.capture(example_inputs)
    return fast


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
    if model.training:
        raise CaptureError(
            f"{type(model).__name__} is in training mode; dropout would be captured as it falls.\n"
            "  Call model.eval() first."
        )


def _has_no_values(arguments: Mapping[str, Any]) -> bool:
    """Whether the inputs are fake or on the meta device: there is nothing to compare then."""
    leaves = torch.utils._pytree.tree_leaves(dict(arguments))
    return any(isinstance(leaf, torch.Tensor) and (leaf.is_meta or isinstance(leaf, FakeTensor)) for leaf in leaves)
