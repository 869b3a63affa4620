"""Digests that tell whether two things are the same: a model's weights, a scheduler, the inputs of a call."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from fouriercache.errors import CalibrationError
from fouriercache.live_weights import plain_parts

_MOST_VALUES = 4096
"""How many values of one weight are read. Weights of billions of values would take longer to read than to use."""


def fingerprint_weights(model: nn.Module) -> str:
    """Return the SHA-256 of the model's parameters and buffers: name, shape, dtype, and values.

    Of a weight with more than 4096 values, 4096 evenly spaced ones are read: training, merging and casting change
    them all, so that is enough to tell two models apart. A weight on the meta device counts without values.
    """
    digest = hashlib.sha256()
    for name, weight in sorted(model.state_dict(keep_vars=True).items()):
        digest.update(f"{name} {tuple(weight.shape)} {weight.dtype}\n".encode())
        for part in plain_parts(weight.detach()):
            if not part.is_meta:
                values = part.detach().reshape(-1)
                stride = -(-len(values) // _MOST_VALUES) or 1
                digest.update(bytes_of(values[::stride]))
    return digest.hexdigest()


def fingerprint_scheduler(scheduler: Any) -> str:
    """Return the SHA-256 of a diffusers scheduler's class and configuration, without the version it was saved with.

    Raises CalibrationError when it has no configuration.
    """
    if not isinstance(getattr(scheduler, "config", None), Mapping):
        raise CalibrationError(
            f"{type(scheduler).__name__} is no scheduler of diffusers: it has no config.\n"
            "  Pass the scheduler that the sampling loop uses, say pipe.scheduler."
        )
    config = {name: value for name, value in dict(scheduler.config).items() if not name.startswith("_")}
    text = json.dumps([type(scheduler).__name__, config], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def fingerprint_inputs(args: Sequence[Any], kwargs: Mapping[str, Any]) -> str:
    """Return the SHA-256 of all tensors among a call's arguments: their places, shapes, dtypes and values."""
    digest = hashlib.sha256()
    leaves, tree = torch.utils._pytree.tree_flatten((list(args), dict(sorted(kwargs.items()))))
    digest.update(str(tree).encode())
    for leaf in leaves:
        if isinstance(leaf, Tensor):
            digest.update(f"{tuple(leaf.shape)} {leaf.dtype}\n".encode())
            digest.update(bytes_of(leaf))
    return digest.hexdigest()


def bytes_of(tensor: Tensor) -> bytes:
    """Return the values of a tensor of any dtype, strides and device, in order, as bytes."""
    values = tensor.detach().resolve_conj().resolve_neg().cpu()
    # not `contiguous`, which leaves the stride of one value that was expanded at 0
    return values.clone(memory_format=torch.contiguous_format).view(-1).view(torch.uint8).numpy().tobytes()
