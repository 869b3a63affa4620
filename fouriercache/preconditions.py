"""Whether a model can be captured as it stands: in eval mode, neither cached nor moved about, and given something."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NoReturn

from torch import Tensor, nn

from fouriercache.errors import CaptureError, TrajectoryError

_FETCHED = {"group_offloading": "offloaded by diffusers", "layerwise_casting": "cast layer by layer by diffusers"}
"""What those of diffusers' hooks do that change weights when a forward runs."""


def check_eval_mode(model: nn.Module) -> None:
    """Raise CaptureError when the model, or a part that computes otherwise then, is in training mode."""
    names = [name for name, module in model.named_modules() if module.training and _minds_training(module)]
    if model.training or names:
        within = "" if model.training else f" in part: {', '.join(names[:3])}{' and others' if names[3:] else ''}"
        raise CaptureError(
            f"{type(model).__name__} is in training mode{within}; dropout would be captured as it falls.\n"
            "  Call model.eval() first."
        )


def check_uncached(model: nn.Module) -> None:
    """Raise CaptureError when diffusers' hooks or cache-dit cache the features: a capture freezes what they do."""
    for name, module in model.named_modules():
        hooks = _diffusers_hooks(module).items()
        stateful = [f"diffusers' hook {key!r}" for key, hook in hooks if getattr(hook, "_is_stateful", False)]
        by = [*stateful, *(["cache-dit"] if getattr(module, "_is_cached", False) is True else [])]
        if by:
            raise CaptureError(
                f"{type(model).__name__} is cached already, by {by[0]}, and no capture can keep that.\n"
                f"  where: {name or 'the model itself'}\n"
                "  Take the other cache off first: model.disable_cache(), or cache_dit.disable_cache(model), or remove "
                "the hook."
            )


def refuse_second_cache(*_: object, **__: object) -> NoReturn:
    """Stand in for diffusers' `enable_cache` where features are kept already.

    Raises:
        CaptureError: always.
    """
    raise CaptureError(
        "an optimised module keeps features itself, and no capture can keep another cache beside it.\n"
        "  Choose what is kept by the method: fc.optimize(model, method). To try diffusers' cache, enable it on the "
        "model\n  itself, fast.model.enable_cache(config), and call that one."
    )


def check_not_offloaded(model: nn.Module) -> None:
    """Raise CaptureError when hooks of accelerate or diffusers fetch the model's weights: they run in its own forward.

    Hooks around an optimised module are no matter: its own forward is what runs.
    """
    for name, module in model.named_modules():
        hook = getattr(module, "_hf_hook", None)
        by = ["offloaded by accelerate"] if any(map(_moves_weights, getattr(hook, "hooks", (hook,)))) else []
        by += [_FETCHED[key] for key in _diffusers_hooks(module) if key in _FETCHED]
        if by:
            raise CaptureError(
                f"{type(model).__name__} is {by[0]}: its weights are fetched when its own forward runs, and a captured "
                f"graph does not run that.\n  where: {name or 'the model itself'}\n"
                "  Take the hooks off (pipe.remove_all_hooks()) and optimise first: pipe.enable_model_cpu_offload()\n"
                "  then moves the optimised module as a whole. Layer by layer it cannot be: keep it on the device, in\n"
                "  the type it computes in (pipe.to(device, dtype)), and offload the others."
            )


def _diffusers_hooks(module: nn.Module) -> Mapping[str, object]:
    found: Mapping[str, object] = getattr(getattr(module, "_diffusers_hook", None), "hooks", {})
    return found


def _moves_weights(hook: object) -> bool:
    """Whether it is accelerate's for a whole model (CpuOffload) or for layers (AlignDevicesHook that offloads)."""
    return hasattr(hook, "prev_module_hook") or getattr(hook, "offload", False) is True


def _minds_training(module: nn.Module) -> bool:
    """Whether it is known to compute otherwise in training; a layer put in by an adapter has the flag in vain."""
    is_random = isinstance(module, nn.modules.dropout._DropoutNd) and module.p > 0
    return is_random or isinstance(module, nn.modules.batchnorm._BatchNorm | nn.RReLU)


def check_filled(tensors: Iterable[tuple[str, Tensor]]) -> None:
    """Raise TrajectoryError when one of the tensors, each beside its name in the call, holds nothing."""
    for path, tensor in tensors:
        if not tensor.numel():
            raise TrajectoryError(
                f"{path} is empty: there is nothing to denoise.\n"
                f"  where: {path} has the shape {list(tensor.shape)}\n"
                "  Leave out calls for no samples or no tokens; look for a slice that selects none."
            )
