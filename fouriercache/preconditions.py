"""Whether a model can be captured as it stands: in eval mode, and not cached by someone else."""

from __future__ import annotations

from torch import nn

from fouriercache.errors import CaptureError


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
        hooks = getattr(getattr(module, "_diffusers_hook", None), "hooks", {})
        stateful = [f"diffusers' hook {key!r}" for key, hook in hooks.items() if getattr(hook, "_is_stateful", False)]
        by = [*stateful, *(["cache-dit"] if getattr(module, "_is_cached", False) is True else [])]
        if by:
            raise CaptureError(
                f"{type(model).__name__} is cached already, by {by[0]}, and no capture can keep that.\n"
                f"  where: {name or 'the model itself'}\n"
                "  Take the other cache off first: model.disable_cache(), or cache_dit.disable_cache(model), or remove "
                "the hook."
            )


def _minds_training(module: nn.Module) -> bool:
    """Whether it is known to compute otherwise in training; a layer put in by an adapter has the flag in vain."""
    is_random = isinstance(module, nn.modules.dropout._DropoutNd) and module.p > 0
    return is_random or isinstance(module, nn.modules.batchnorm._BatchNorm | nn.RReLU)
