"""A calibration set: a denoiser and a function that samples with it, or a diffusers pipeline and its arguments."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor, nn

from fouriercache.calibration.loop import Sample
from fouriercache.errors import CalibrationError

_DENOISER, _SECOND = "transformer", "transformer_2"
Call: TypeAlias = Mapping[str, Any] | Sequence[Mapping[str, Any]]
"""Keyword arguments of a pipeline, or of several calls of it."""


def calibration_set(
    model: Any,
    sample: Sample | None,
    call: Call | None,
    seeds: Sequence[int],
    scheduler: Any,
    num_steps: int,
) -> tuple[nn.Module, Sample, Any]:
    """Return the denoiser, the function that samples with one, and the scheduler if it is known.

    Raises CalibrationError when a denoiser comes without `sample`, a pipeline without `call`, or either with both.
    """
    if isinstance(model, nn.Module):
        if sample is None or call is not None:
            raise CalibrationError(
                f"{type(model).__name__} is a denoiser, and nothing says how to sample with it.\n"
                "  Pass sample= a function that runs the sampling loop with a given denoiser, or a pipeline and call=."
            )
        return model, sample, scheduler
    if call is None or sample is not None:
        raise CalibrationError(
            f"{type(model).__name__} is no module, so it is taken for a pipeline, which needs call= and no sample=.\n"
            "  Pass call={'prompt': [...]} with the pipeline's arguments, or the denoiser and sample=."
        )
    return _denoiser_of(model), sample_with_pipeline(model, call, seeds, num_steps), model.scheduler


def sample_with_pipeline(pipe: Any, call: Call, seeds: Sequence[int], num_steps: int) -> Sample:
    """Return a function that calls a copy of the pipeline once for each call and seed, with a denoiser put into it.

    The copy has the pipeline's own configuration and shares all components but the scheduler; the pipeline given is
    not changed. Each call gets `call`, `num_inference_steps`, a generator seeded on the CPU, and
    `output_type="latent"` unless `call` says otherwise.

    Raises CalibrationError when this is no pipeline with one transformer, or there is no seed or call.
    """
    _denoiser_of(pipe)
    calls = [call] if isinstance(call, Mapping) else list(call)
    if not seeds or not calls:
        missing = "call" if seeds else "seed"
        raise CalibrationError(
            f"No {missing}, so nothing would be sampled.\n  Pass seeds=(0,) and call={{...}}, or more."
        )
    ours = _copy_of(pipe)

    def sample(denoiser: nn.Module) -> Tensor:
        setattr(ours, _DENOISER, denoiser)
        results = []
        for one, seed in product(calls, seeds):
            given = {"output_type": "latent", **copy.deepcopy(dict(one))}
            generator = torch.Generator().manual_seed(seed)
            found = ours(**given, num_inference_steps=num_steps, generator=generator, return_dict=False)
            results.append(_as_rows(found[0]))
        return torch.cat(results)

    return sample


def _copy_of(pipe: Any) -> Any:
    """Return a pipeline of its own scheduler, and otherwise as this one is, with all that its owner set on it.

    Building another from its components would lose what is no component, as Wan's `boundary_ratio` is none.
    """
    ours = copy.copy(pipe)
    ours.scheduler = copy.deepcopy(pipe.scheduler)
    ours.set_progress_bar_config(disable=True)
    return ours


def _denoiser_of(pipe: Any) -> nn.Module:
    """Return the pipeline's transformer.

    Raises CalibrationError when it has none, or two.
    """
    model = getattr(pipe, _DENOISER, None)
    if not isinstance(model, nn.Module) or not hasattr(pipe, "components"):
        raise CalibrationError(
            f"{type(pipe).__name__} is no diffusers pipeline with a transformer.\n"
            "  Pass the denoiser itself, and sample= a function that runs the sampling loop with a given denoiser."
        )
    if getattr(pipe, _SECOND, None) is not None:
        raise CalibrationError(
            f"{type(pipe).__name__} has two transformers, and which of them is meant cannot be told.\n"
            "  Pass one of them, num_steps= the steps that are its own, and sample= a function that puts a given\n"
            "  denoiser in its place and runs the pipeline; then the other (docs/pipelines.md)."
        )
    return model


def _as_rows(found: Any) -> Tensor:
    """Return a pipeline's result, float32 [n, ...]: latents, arrays, or a list of images."""
    if isinstance(found, Tensor):
        return found.detach().float().cpu()
    if isinstance(found, list | tuple):
        return torch.stack([torch.as_tensor(np.asarray(one)) for one in found]).float()
    return torch.as_tensor(np.asarray(found)).float()
